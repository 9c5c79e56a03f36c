// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
)

// mode says where the sockets belong: kubelet finds them by itself if it has a
// registry, and is told of them otherwise.
func (d Dirs) mode() (dir string, watched bool) {
	if info, err := os.Stat(d.Registry()); err == nil && info.IsDir() {
		return d.Registry(), true
	}
	return d.Plugins(), false
}

// maxSocketPath is how long the path of a unix socket may be
// (sockaddr_un.sun_path without its final zero).
const maxSocketPath = 107

// socketPath is where a resource's socket lies. A name that is too long for a
// socket is cut and made unique again by a hash.
func socketPath(dir string, r config.Resource) string {
	const suffix = ".sock"
	name := r.Prefix + "_" + r.Name
	if room := maxSocketPath - len(dir) - 1 - len(suffix); len(name) > room {
		sum := sha256.Sum256([]byte(r.String()))
		unique := hex.EncodeToString(sum[:8])
		name = name[:max(0, room-1-len(unique))] + "-" + unique
	}
	return filepath.Join(dir, name+suffix)
}

// socket is a listening socket and the file that it is known by.
type socket struct {
	path     string
	listener net.Listener
	file     os.FileInfo
}

// listen makes the socket anew, whatever was there before. It takes its place in one step,
// so that another process whose socket was there sees who has it now. Kubelet ignores names
// that begin with a dot.
func listen(path string) (*socket, error) {
	temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%x", rand.Uint64()))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the path may be another's by then
	file, err := os.Lstat(temporary)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(temporary), l.Close())
	}
	return &socket{path: path, listener: l, file: file}, nil
}

// inPlace reports whether the path still leads to this socket.
func (s *socket) inPlace() bool {
	now, err := os.Lstat(s.path)
	return err == nil && os.SameFile(now, s.file)
}

// isServed reports whether a process accepts connections on a socket.
func isServed(path string) bool {
	conn, err := net.DialTimeout("unix", path, dialTime)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// dialTime bounds an attempt to connect to a socket whose process may hang.
const dialTime = 100 * time.Millisecond

// remove deletes the file unless it is another's by now. What it leaves behind
// the next listen removes.
func (s *socket) remove() {
	if s.inPlace() {
		_ = os.Remove(s.path)
	}
}
