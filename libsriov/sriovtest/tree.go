// SPDX-License-Identifier: Apache-2.0

package sriovtest

import (
	"bufio"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A host tree is kept as text, so that it can be reviewed and its symbolic
// links survive:
//
//	# comment
//	sys/class/net/
//	sys/class/net/eth0 -> ../../devices/pci0000:00/0000:00:02.0/net/eth0
//	sys/devices/pci0000:00/0000:00:02.0/uevent
//		DRIVER=igb
//		PCI_CLASS=20000
//
// A path that ends in a slash is a directory, one with an arrow a symbolic
// link, any other a file, whose lines follow behind one tab each. Parents are
// made as needed.

//go:embed testdata/*.tree
var captured embed.FS

// Captured unpacks the tree of a captured host into a temporary directory and
// returns that. Names are those of testdata without ".tree", e.g. "igb-node".
func Captured(t testing.TB, name string) string {
	t.Helper()
	text, err := captured.ReadFile("testdata/" + name + ".tree")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, Unpack(dir, string(text)))
	return dir
}

// Unpack makes below dir what a tree's text describes.
func Unpack(dir, text string) error {
	root, err := os.OpenRoot(dir) // no path of the text leads outside
	if err != nil {
		return err
	}
	defer root.Close()
	var file string
	var content strings.Builder
	flush := func() error {
		if file == "" {
			return nil
		}
		defer content.Reset()
		return root.WriteFile(file, []byte(content.String()), 0o644)
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if body, ok := strings.CutPrefix(line, "\t"); ok {
			if file == "" {
				return fmt.Errorf("line %d: content without a file", n)
			}
			content.WriteString(body + "\n")
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		file = ""
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if file, err = entry(root, line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return flush()
}

// entry makes a directory or a link, or the parents of the file it returns.
func entry(root *os.Root, line string) (file string, err error) {
	if path, ok := strings.CutSuffix(line, "/"); ok {
		return "", root.MkdirAll(path, 0o755)
	}
	path, target, isLink := strings.Cut(line, " -> ")
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if isLink {
		return "", root.Symlink(target, path)
	}
	return path, nil
}

// Capture writes what libsriov reads on the host at root as the text of a tree.
func Capture(root string) (string, error) {
	c := capture{root: root, done: map[string]bool{}}
	for _, dir := range []string{
		"sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class/net", "sys/class/infiniband", "sys/class/infiniband_verbs",
		"sys/class/infiniband_mad", "sys/bus/vdpa/devices", "sys/bus/auxiliary/devices", "sys/kernel/iommu_groups",
	} {
		if err := c.links(dir); err != nil {
			return "", err
		}
	}
	return c.text.String(), nil
}

type capture struct {
	root string
	done map[string]bool
	text strings.Builder
}

// links records a directory of links and what libsriov reads of the devices
// that they lead to.
func (c *capture) links(dir string) error {
	entries, err := os.ReadDir(filepath.Join(c.root, dir))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(&c.text, "%s/\n", dir)
	for _, e := range entries {
		path := dir + "/" + e.Name()
		if e.Type()&fs.ModeSymlink == 0 {
			if err := c.device(path); err != nil { // drivers and IOMMU groups are directories
				return err
			}
			continue
		}
		target, err := os.Readlink(filepath.Join(c.root, path))
		if err != nil {
			return err
		}
		fmt.Fprintf(&c.text, "%s -> %s\n", path, target)
		if err := c.device(filepath.Clean(filepath.Join(dir, target))); err != nil {
			return err
		}
	}
	return nil
}

// attributes are the files, and children the directories below a device, that
// libsriov may read.
var (
	attributes = []string{
		"uevent", "numa_node", "sriov_totalvfs", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_drivers_autoprobe",
		"acpi_index", "type", "ifindex", "phys_port_name", "ibdev", "sfnum", "name", "driver_override",
	}
	children = []string{"net", "infiniband", "uio"}
)

func (c *capture) device(path string) error {
	if c.done[path] {
		return nil
	}
	c.done[path] = true
	entries, err := os.ReadDir(filepath.Join(c.root, path))
	if err != nil {
		return nil // a link to nowhere is part of the picture
	}
	fmt.Fprintf(&c.text, "%s/\n", path)
	for _, e := range entries {
		at := path + "/" + e.Name()
		switch target, err := os.Readlink(filepath.Join(c.root, at)); {
		case err == nil && (e.Name() == "driver" || e.Name() == "physfn" || e.Name() == "iommu_group" || strings.HasPrefix(e.Name(), "virtfn")):
			fmt.Fprintf(&c.text, "%s -> %s\n", at, target)
		case slices.Contains(attributes, e.Name()):
			value, err := os.ReadFile(filepath.Join(c.root, at))
			if err != nil {
				continue // the kernel has nothing to say
			}
			fmt.Fprintf(&c.text, "%s\n", at)
			for line := range strings.Lines(string(value)) {
				fmt.Fprintf(&c.text, "\t%s\n", strings.TrimSuffix(line, "\n"))
			}
		case slices.Contains(children, e.Name()):
			below, err := os.ReadDir(filepath.Join(c.root, at))
			if err != nil {
				return err
			}
			for _, b := range below {
				if err := c.device(at + "/" + b.Name()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
