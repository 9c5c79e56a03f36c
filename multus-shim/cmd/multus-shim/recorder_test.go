// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// recorder is the delegate of these tests: a CNI plugin that notes how it was
// called and then does what the "test" member of its configuration says.
const recorder = "recorder"

// script is that member.
type script struct {
	Fail   map[string]uint // command -> CNI error code it answers with
	Crash  string          // command at which it kills itself
	Hang   string          // command at which it waits for its end
	Runs   string          // plugin that it hands its own stdin to, as to an IPAM plugin
	Stdout map[string]string
	Stderr string
	Result json.RawMessage
	Link   bool     // ADD makes a link of the given name, DEL removes it
	Addr   []string // of that link
	Routes []string // "dst via gateway", added through it
}

// invocation is one line of the log.
type invocation struct {
	Command, Container, Netns, Ifname, Args, Path string
	Stdin                                         string
}

func (i invocation) String() string { return i.Command + " " + i.Ifname }

// member decodes a member of what the plugin read on stdin.
func (i invocation) member(t testing.TB, key string) string {
	t.Helper()
	var conf map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(i.Stdin), &conf))
	return string(conf[key])
}

func recorderMain() error {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	call := invocation{
		Command: os.Getenv("CNI_COMMAND"), Container: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"),
		Ifname: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS"), Path: os.Getenv("CNI_PATH"), Stdin: string(stdin),
	}
	if err := note(call); err != nil {
		return err
	}
	var conf struct {
		CNIVersion string
		Test       script
	}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return err
	}
	s := conf.Test
	fmt.Fprint(os.Stderr, s.Stderr)
	switch {
	case s.Hang == call.Command:
		time.Sleep(time.Hour)
	case s.Crash == call.Command:
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case s.Fail[call.Command] != 0:
		fmt.Printf(`{"cniVersion":%q,"code":%d,"msg":"told to fail"}`, conf.CNIVersion, s.Fail[call.Command])
		os.Exit(1)
	}
	if s.Runs != "" {
		plugin := exec.Command(filepath.Join(filepath.SplitList(call.Path)[0], s.Runs))
		plugin.Stdin, plugin.Stdout, plugin.Stderr = bytes.NewReader(stdin), os.Stdout, os.Stderr
		if plugin.Run() != nil {
			os.Exit(1)
		}
	}
	if out, ok := s.Stdout[call.Command]; ok {
		fmt.Print(out)
		return nil
	}
	if s.Link {
		if err := s.link(call); err != nil {
			return err
		}
	}
	if call.Command != "ADD" {
		return nil
	}
	if s.Result != nil {
		fmt.Println(string(s.Result))
		return nil
	}
	fmt.Printf(`{"cniVersion":%q,"interfaces":[{"name":%q,"mac":"02:00:00:00:00:01","sandbox":%q}]}`, conf.CNIVersion, call.Ifname, call.Netns)
	return nil
}

func note(call invocation) error {
	log, err := os.OpenFile(os.Getenv("RECORDER_LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	line, err := json.Marshal(call)
	if err != nil {
		return err
	}
	_, err = log.Write(append(line, '\n'))
	return errors.Join(err, log.Close())
}

// link makes or removes one end of a veth pair in the pod.
func (s script) link(call invocation) error {
	ns, err := netns.GetFromPath(call.Netns)
	if err != nil {
		return nil // the pod is gone, and its links with it
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	if call.Command == "DEL" {
		link, err := h.LinkByName(call.Ifname)
		if err != nil {
			return nil
		}
		return h.LinkDel(link)
	}
	if call.Command != "ADD" {
		return nil
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: call.Ifname}, PeerName: "p-" + call.Ifname}
	if err := h.LinkAdd(veth); err != nil {
		return err
	}
	peer, err := h.LinkByName(veth.PeerName)
	if err != nil {
		return err
	}
	link, err := h.LinkByName(call.Ifname)
	if err != nil {
		return err
	}
	for _, l := range []netlink.Link{link, peer} {
		if err := h.LinkSetUp(l); err != nil {
			return err
		}
	}
	for _, a := range s.Addr {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = syscall.IFA_F_NODAD
		if err := h.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return s.addRoutes(h, link)
}

func (s script) addRoutes(h *netlink.Handle, link netlink.Link) error {
	for _, r := range s.Routes {
		dst, gw, _ := strings.Cut(r, " via ")
		_, network, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		err = h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: network, Gw: net.ParseIP(gw)})
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return nil
}
