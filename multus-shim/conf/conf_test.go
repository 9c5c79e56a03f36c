// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(`{"name":"n","clusterNetwork":"net"}`))
	require.NoError(t, err)
	assert.Equal(t, "/etc/cni/multus/net.d", c.ConfDir)
	assert.Equal(t, "/var/lib/cni/multus", c.CNIDir)
	assert.Equal(t, "/opt/cni/bin", c.BinDir)
	assert.Equal(t, []string{"default"}, c.GlobalNamespaces)
	assert.Equal(t, []string{"kube-system"}, c.SystemNamespaces)
	assert.Equal(t, "kube-system", c.MultusNamespace)
	assert.Equal(t, Policy{Status: StatusAlways, Events: EventsFailures, Lenient: true, MaxNetworks: 64}, c.Policy)
	assert.Equal(t, Timeout{API: 10 * time.Second, Delegate: time.Minute, Readiness: 45 * time.Second}, c.Timeout)
	assert.Equal(t, Log{Level: slog.LevelWarn, ToStderr: true}, c.Log)
	assert.Nil(t, c.Annotations, "the runtime said nothing")
}

func TestFields(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(`{"name":"n","cniVersion":"1.0.0","clusterNetwork":"/d/c.conflist","auxiliaryCNIChainName":"aux",
		"globalNamespaces":" a, b,","systemNamespaces":[],"logLevel":"verbose","logToStderr":false,"apiTimeout":"1.5s",
		"statusPolicy":"never","statusFailure":"strict","events":"all","capabilityCheck":"warn","maxNetworks":7,"retryDeleteOnError":true,
		"clusternetworks":1,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"k":"v"},"dns":{}},
		"cni.dev/attachments":[{"containerID":"c","ifname":"eth0"}],"logOptions":{"maxAge":5}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, c.GlobalNamespaces)
	assert.Empty(t, c.SystemNamespaces)
	assert.Equal(t, slog.LevelInfo, c.Log.Level)
	assert.False(t, c.Log.ToStderr)
	assert.Equal(t, 1500*time.Millisecond, c.Timeout.API)
	assert.Equal(t, Policy{Status: StatusNever, StatusStrict: true, Events: EventsAll, Lenient: true, MaxNetworks: 7}, c.Policy)
	assert.Equal(t, map[string]string{"k": "v"}, c.Annotations)
	assert.Equal(t, []Attachment{{"c", "eth0"}}, c.ValidAttachments)
	assert.Equal(t, []string{"clusternetworks"}, c.Unknown)
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ conf, want string }{
		"no default network":   {`{}`, `neither "delegates" nor "clusterNetwork"`},
		"empty delegates":      {`{"delegates":[]}`, `neither "delegates"`},
		"not JSON":             {`{`, `unexpected end`},
		"wrong type":           {`{"clusterNetwork":7}`, `clusterNetwork`},
		"relative directory":   {`{"clusterNetwork":"n","cniDir":"var"}`, `cniDir "var": not an absolute path`},
		"chain without a file": {`{"clusterNetwork":"n","auxiliaryCNIChainName":"x"}`, `auxiliaryCNIChainName "x"`},
		"chain as a path":      {`{"clusterNetwork":"/n","auxiliaryCNIChainName":"../x"}`, `a name, not a path`},
		"duration":             {`{"clusterNetwork":"n","apiTimeout":"10"}`, `apiTimeout "10": want a positive duration`},
		"policy":               {`{"clusterNetwork":"n","statusPolicy":"sometimes"}`, `statusPolicy "sometimes": want one of always, annotated, never`},
		"annotations":          {`{"clusterNetwork":"n","runtimeConfig":{"io.kubernetes.cri.pod-annotations":[]}}`, `pod-annotations`},
		"attachment":           {`{"clusterNetwork":"n","cni.dev/valid-attachments":[{"containerID":"c"}]}`, `element 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tc.conf))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestArgs(t *testing.T) {
	t.Parallel()
	args, err := ParseArgs("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;;X=a=b;X=c")
	require.NoError(t, err)
	assert.Equal(t, Args{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "ns"}, {"K8S_POD_NAME", "p"}, {"X", "c"}}, args)
	assert.Equal(t, Pod{Namespace: "ns", Name: "p"}, args.Pod())
	assert.Equal(t, Args{{"X", "c"}}, args.Without("IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME"))
	assert.Equal(t, "c", args.Get("X"), "With and Without leave their receiver alone")

	_, err = ParseArgs("A=1;B")
	require.ErrorContains(t, err, `"B" is not KEY=VALUE`)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"name":"n","clusterNetwork":"net"}`))
	f.Add([]byte(`{"delegates":[{"type":"x"}],"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}}`))
	f.Add([]byte(`{"clusterNetwork":"/a","apiTimeout":"-1s","globalNamespaces":",,"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		require.True(t, len(c.Delegates) > 0 || c.ClusterNetwork != "")
		require.Positive(t, c.Timeout.API)
		require.Positive(t, c.Timeout.Delegate)
	})
}
