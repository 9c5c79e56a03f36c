package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"golang.org/x/sys/unix"
)

// attachment names one interface of one container, as the runtime does.
type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// journal is what ADD writes before it changes anything: who gets the VF, what
// is about to be changed, and how everything was. It is all that is needed to
// bring the VF back, at whatever point ADD or DEL was killed; its presence means
// that the VF is not known to be as it was. Keys are only ever added.
type journal struct {
	Version int        `json:"version"`
	Owner   attachment `json:"owner"`
	Network string     `json:"network"` // name of the configuration

	Device   libsriov.Address  `json:"device"`
	Identity identity          `json:"identity"`
	PF       *libsriov.Address `json:"pf,omitempty"` // nil: no PF in sight
	VFIndex  int               `json:"vf"`
	NetNS    namespace         `json:"netns"`

	Before vfstate.State `json:"before"` // what the PF enforced
	Want   vfstate.State `json:"want"`   // what ADD has it enforce
	Link   *linkState    `json:"link"`   // the interface as it was; nil: driven from user space

	// MACLocked: the PF had set the VF's MAC and kept it from choosing another.
	MACLocked bool `json:"macLocked,omitempty"`

	// Committed: ADD reached its end; marker and record go with the journal from
	// here on. Without them it is out of date: see store.loadJournal. It is the
	// last key and always there, for store.commit.
	Committed bool `json:"committed"`
}

const journalVersion = 1

// linkState is what a pod may change on an interface and ADD's undoing restores.
type linkState struct {
	Parent   string   `json:"parent"` // IFLA_PARENT_DEV_NAME, by which it is found again
	Index    int      `json:"index"`  // on the host
	Name     string   `json:"name"`
	MAC      mac      `json:"mac"`
	MTU      int      `json:"mtu"`
	Up       *bool    `json:"up,omitempty"`       // nil: not known
	Promisc  *bool    `json:"promisc,omitempty"`  // nil: not known
	AllMulti *bool    `json:"allmulti,omitempty"` // nil: not known
	AltNames []string `json:"altNames"`           // nil: not known
}

func linkStateOf(l link.Link) *linkState {
	s := &linkState{
		Parent: l.Parent, Index: l.Index, Name: l.Name, MAC: mac(l.MAC), MTU: l.MTU,
		Up: new(l.Up()), Promisc: new(l.Flags&unix.IFF_PROMISC != 0), AllMulti: new(l.Flags&unix.IFF_ALLMULTI != 0),
		AltNames: slices.Clone(l.AltNames),
	}
	if s.AltNames == nil {
		s.AltNames = []string{}
	}
	slices.Sort(s.AltNames)
	return s
}

// mac is an address that JSON shows in the usual notation.
type mac net.HardwareAddr

// MarshalText writes "ca:fe:c0:ff:ee:01".
func (m mac) MarshalText() ([]byte, error) { return []byte(net.HardwareAddr(m).String()), nil }

// UnmarshalText reads what MarshalText wrote; "" is nil.
func (m *mac) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = nil
		return nil
	}
	parsed, err := net.ParseMAC(string(b))
	*m = mac(parsed)
	return err
}

// identity tells a PCI function from another that has its address later: after
// a reboot, or because VFs were destroyed and created again.
type identity struct {
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	Inode uint64 `json:"inode"` // of the sysfs directory, which the kernel numbers anew
}

// identify reads a function's identity; fs.ErrNotExist if it is gone.
func (p *Plugin) identify(a libsriov.Address) (identity, error) {
	boot, err := readFile(p.path("proc/sys/kernel/random/boot_id"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return identity{}, err
	}
	info, err := os.Stat(p.path("sys/bus/pci/devices/" + a.String()))
	if err != nil {
		return identity{}, err
	}
	id := identity{Boot: strings.TrimSpace(string(boot))}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Inode = st.Ino
	}
	return id, nil
}

// namespace is a network namespace: where it was found, and the inode by which
// it is told from another that is found there later.
type namespace struct {
	Path   string `json:"path"`
	Device uint64 `json:"dev"`
	Inode  uint64 `json:"inode"` // 0: not known
}

// errNoNamespace: the path does not lead to a network namespace, or not to the
// one it led to.
var errNoNamespace = errors.New("network namespace is gone")

// nsfsMagic is NSFS_MAGIC of linux/magic.h.
const nsfsMagic = 0x6e736673

// open opens the namespace; the error wraps errNoNamespace if it is not there
// any more. The caller closes the file.
func (n namespace) open() (*os.File, namespace, error) {
	if n.Path == "" {
		return nil, n, fmt.Errorf("no path given: %w", errNoNamespace)
	}
	f, err := open(n.Path, unix.O_RDONLY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESRCH) {
			err = fmt.Errorf("%w: %w", errNoNamespace, err)
		}
		return nil, n, err
	}
	var sfs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(f.Fd()), &sfs), unix.Fstat(int(f.Fd()), &st)); err != nil {
		f.Close()
		return nil, n, fmt.Errorf("%s: %w", n.Path, err)
	}
	found := namespace{Path: n.Path, Device: st.Dev, Inode: st.Ino}
	switch {
	case sfs.Type != nsfsMagic:
		err = fmt.Errorf("%s is not a network namespace: %w", n.Path, errNoNamespace)
	case n.Inode != 0 && (n.Device != found.Device || n.Inode != found.Inode):
		err = fmt.Errorf("%s is another namespace now: %w", n.Path, errNoNamespace)
	}
	if err != nil {
		f.Close()
		return nil, n, err
	}
	return f, found, nil
}
