package libsriov

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParseUevent: a function or an error, and what is understood survives
// being written out and read again.
func FuzzParseUevent(f *testing.F) {
	f.Add("DRIVER=igb\nPCI_CLASS=20000\nPCI_ID=8086:10C9\nPCI_SUBSYS_ID=1AF4:1100\nPCI_SLOT_NAME=0000:01:00.0\nMODALIAS=pci:x\n")
	f.Add("PCI_CLASS=20000\nPCI_ID=8086:10C9")
	f.Add("PCI_CLASS=\nPCI_ID=:")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		fn, err := parseUevent(text)
		if err != nil {
			require.Equal(t, Function{}, fn)
			return
		}
		again, err := parseUevent(fmt.Sprintf("DRIVER=%s\nPCI_CLASS=%X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\n",
			fn.Driver, uint32(fn.Class), uint16(fn.Vendor), uint16(fn.Device), uint16(fn.SubsystemVendor), uint16(fn.SubsystemDevice)))
		require.NoError(t, err)
		require.Equal(t, fn, again)
	})
}
