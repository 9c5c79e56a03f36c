// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"

	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/stretchr/testify/require"
)

// A prevResult is a result without holes, or an error.
func FuzzPrevious(f *testing.F) {
	for _, prev := range []string{
		`{"cniVersion":"1.0.0","interfaces":[{"name":"net1","mac":"ca:fe:c0:ff:ee:01","sandbox":"/x"}],"ips":[{"address":"192.0.2.7/24","interface":0}]}`,
		`{"ips":[null]}`, `{"routes":[null],"cniVersion":"0.4.0"}`, `{"interfaces":[null]}`, `{"IPS":[{"address":null,"interface":-1}]}`, `{}`, `7`,
	} {
		f.Add([]byte(`{"cniVersion":"1.0.0","name":"n","deviceID":"0000:af:06.0","prevResult":` + prev + `}`))
	}
	f.Fuzz(func(t *testing.T, stdin []byte) {
		r, err := request.Parse(stdin, "")
		if err != nil {
			return
		}
		prev, err := previous(r.Conf.NetConf)
		if err != nil {
			require.Nil(t, prev)
			return
		}
		for _, i := range prev.Interfaces {
			require.NotNil(t, i)
		}
		for _, ip := range prev.IPs {
			require.NotNil(t, ip)
		}
		for _, route := range prev.Routes {
			require.NotNil(t, route)
		}
		prevMAC(prev, "net1")
	})
}
