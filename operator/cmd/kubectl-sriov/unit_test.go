// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRates(t *testing.T) {
	t.Parallel()
	scrape := func(rx, dropped string) map[vfKey]sample {
		all, err := parseMetrics("w1", []byte(`# TYPE sriov_vf_rx_bytes counter
sriov_vf_rx_bytes{pf="eth0",vf="3",pciAddr="0000:01:10.6",numa_node="0"} `+rx+`
# TYPE sriov_vf_rx_dropped counter
sriov_vf_rx_dropped{pf="eth0",vf="3",pciAddr="0000:01:10.6",numa_node="0"} `+dropped+`
# TYPE sriov_vf_tx_dropped counter
sriov_vf_tx_dropped{pf="eth0",vf="3",pciAddr="0000:01:10.6",numa_node="0"} 1
# TYPE sriov_kubepoddevice counter
sriov_kubepoddevice{pciAddr="0000:01:10.6",dev_type="openshift.io/nics",pod="app",namespace="default",container="c"} 1
`))
		require.NoError(t, err)
		require.Len(t, all, 1)
		return map[vfKey]sample{{"w1", "0000:01:10.6"}: {at: time.Unix(100, 0), rate: all[0]}}
	}
	later := func(m map[vfKey]sample) map[vfKey]sample {
		for k, s := range m {
			s.at = s.at.Add(2 * time.Second)
			m[k] = s
		}
		return m
	}
	want := Rate{Node: "w1", PF: "eth0", VF: 3, Address: "0000:01:10.6", Pod: "default/app", RxBytes: 500, Dropped: 2}
	require.Equal(t, []Rate{want}, rates(scrape("1000", "1"), later(scrape("2000", "5"))))
	want.RxBytes, want.Dropped = 50, 0
	require.Equal(t, []Rate{want}, rates(scrape("1000", "1"), later(scrape("100", "1"))), "a counter that began anew")
	require.Empty(t, rates(nil, scrape("1", "1")), "a VF that was not there before")

	require.Equal(t, "999.0 bit/s", bits(999.0/8))
	require.Equal(t, "25.0 Gbit/s", bits(25e9/8))
	_, err := parseMetrics("w1", []byte("<html>"))
	require.Error(t, err)
}

// Only a terminal gets colours, and what others wrote never steers it.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := func() [][]cell {
		return [][]cell{headings("NAME", "STATE"), {{"a\x1b[2Jb\nc", ""}, {"Failed", red}}, plain("é", "")}
	}
	var out bytes.Buffer
	output{Writer: &out}.table(rows())
	require.Equal(t, "NAME     STATE\na[2Jb c  Failed\né        -\n", out.String())
	out.Reset()
	output{Writer: &out, colour: true}.table(rows())
	require.Equal(t, "\x1b[1mNAME\x1b[0m     \x1b[1mSTATE\x1b[0m\na[2Jb c  \x1b[31mFailed\x1b[0m\né        -\n", out.String())
}
