// SPDX-License-Identifier: Apache-2.0

package request

import (
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever writes a network names no file of the node but those that are usual.
func TestNamesFiles(t *testing.T) {
	t.Parallel()
	const own = "/var/lib/cni/sriov"
	ipam := func(keys string) string { return `"ipam":{"type":"some",` + keys + `}` }
	for conf, bad := range map[string]string{ // "" is fine
		// As documentation, distributions and installers have it.
		`"ipam":{"type":"host-local","ranges":[[{"subnet":"1.1.1.0/24"}]],"dataDir":"/run/my-orchestrator/container-ipam-state"}`:                                              "",
		`"ipam":{"type":"host-local","subnet":"10.0.0.0/24","resolvConf":"/etc/resolv.conf"}`:                                                                                  "",
		`"ipam":{"type":"dhcp","daemonSocketPath":"/run/cni/dhcp.sock","request":[{"skipDefault":false,"option":"classless-static-routes"}]}`:                                  "",
		`"ipam":{"type":"whereabouts","range":"192.168.2.225-192.168.2.235/28","node_slice_size":"/22","log_file":"/tmp/whereabouts.log","exclude":["192.168.2.229/30"]}`:      "",
		`"ipam":{"type":"whereabouts","range":"::/64","kubernetes":{"kubeconfig":"/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"}}`:                                      "",
		`"ipam":{"type":"calico-ipam"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"},"datastore_type":"kubernetes","log_file_path":"/var/log/calico/cni.log"`: "",
		`"ipam":{"type":"static","addresses":[{"address":"10.10.0.1/24","gateway":"10.10.0.254"}],"routes":[{"dst":"0.0.0.0/0"}]}`:                                             "",
		`"ipam":{"type":"whereabouts","range":"1.1.1.0/24","configuration_path":"/var/lib/rancher/k3s/agent/etc/cni/net.d/whereabouts.d/whereabouts.conf"}`:                    "",
		`"ipam":{"type":"whereabouts","kubernetes":{"kubeconfig":"/var/lib/rancher/rke2/agent/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"}}`:                           "",
		`"ipam":{"type":"kube-ovn","server_socket":"/run/openvswitch/kube-ovn-daemon.sock","provider":"sriov.default"}`:                                                        "",
		`"ipam":{"type":"spiderpool","log_file_path":"/var/log/spidernet/spiderpool.log","ipam_unix_socket_path":"/var/run/spidernet/spiderpool.sock"}`:                        "",
		`"ipam":{"type":"nv-ipam","daemonSocket":"unix:///var/lib/cni/nv-ipam/daemon.sock","confDir":"/etc/cni/net.d/nv-ipam.d","logFile":"/var/log/nv-ipam-cni.log"}`:         "",
		`"ipam":{"type":"dhcp","daemonSocketPath":"/run/vpc/cni/dhcp.sock"}`:                                                                                                   "",
		`"ipam":{"type":"host-local","subnet":"10.0.0.0/24","resolvConf":"/run/NetworkManager/resolv.conf"}`:                                                                   "",
		`"ipam":{"type":"calico-ipam"},"etcd_key_file":"/etc/calico/certs/key.pem","nodename_file":"/var/lib/calico/nodename"`:                                                 "",
		`"ipam":{"type":"calico-ipam"},"policy":{"type":"k8s","k8s_api_root":"https://a.example:6443","k8s_client_key":"/etc/calico/certs/kubernetes/client.key"}`:             "",
		`"ipam":{"type":"calico-ipam"},"policy":{"k8s_api_root":""},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}`:                                            "",
		`"ipam":{"type":"static","addresses":[{"address":"fd00::2/64","gateway":"fd00::1"}],"routes":[{"dst":"fd00::/8"}]},"args":{"cni":{"ips":["fd00:1::/64"]}}`:             "",
		`"ipam":{"type":"some","server":"https://a.example/path"}`:                                                                                                             "",
		`"ipam":{},"kubernetes":{"kubeconfig":"/root/.kube/config"}`:                                                                                                           "", // no plugin reads it
		ipam(`"dataDir":["/run","/var/run"]`): "",
		ipam(`"dataDir":""`):                  "",
		ipam(`"dataDir":"/opt/ipam/a"`):       "", // by the administrator
		ipam(`"odd":"/opt/ipam"`):             "",
		`"ipam":{"type":"some"},"logFile":"/etc/x","runtimeConfig":{"cgroupPath":"/kubepods"},"prevResult":{"interfaces":[{"sandbox":"/var/run/netns/a"}]}`: "",

		ipam(`"dataDir":"/etc/cron.d"`): "ipam.dataDir",
		ipam(`"dataDir":"/run/containerd/io.containerd.runtime.v2.task/k8s.io/a/rootfs/x"`):      "ipam.dataDir",
		ipam(`"dataDir":"/var/run/k3s/containerd/a/rootfs/x"`):                                   "ipam.dataDir",
		ipam(`"server_socket":"unix:///run/containerd/containerd.sock"`):                         "ipam.server_socket",
		ipam(`"dataDir":"etc/cron.d"`):                                                           "ipam.dataDir",
		ipam(`"dataDir":"/run/../etc"`):                                                          "ipam.dataDir",
		ipam(`"dataDir":"/running"`):                                                             "ipam.dataDir",
		ipam(`"dataDir":"/var/lib/cni/sriov/pci"`):                                               "ipam.dataDir",
		ipam(`"dataDir":"/run","DATADIR":"/etc"`):                                                "ipam.DATADIR",
		ipam(`"dataDir":"/etc","dataDir":"/run"`):                                                "ipam.dataDir",
		ipam(`"re\u017folvConf":"/etc/shadow"`):                                                  "ipam.re\u017folvConf",
		ipam(`"log_file":"/etc/profile.d/z.sh"`):                                                 "ipam.log_file",
		ipam(`"log_file":"/tmp/../etc/profile.d/z.sh"`):                                          "ipam.log_file",
		ipam(`"kubernetes":{"kubeconfig":"/root/x"},"kubernetes":{}`):                            "ipam.kubernetes.kubeconfig",
		ipam(`"kubernetes":{"kubeconfig":["/etc/cni/a","/root/x"]}`):                             "ipam.kubernetes.kubeconfig[1]",
		ipam(`"daemonSocket":"unix:///run/a.sock","other":"unix:///x/y"`):                        "ipam.other",
		ipam(`"a":[{"b":[["/proc/1/root"]]}]`):                                                   "ipam.a[0].b[0][0]",
		`"ipam":{"type":"calico-ipam"},"etcd_key_file":"/etc/shadow"`:                            "etcd_key_file",
		`"ipam":{"type":"calico-ipam"},"x":{"log_file_path":"/etc/x"}`:                           "x.log_file_path",
		`"ipam":{"type":"calico-ipam"},"policy":{"K8s_client_key":"/etc/kubernetes/pki/ca.key"}`: "policy.K8s_client_key",
		`"ipam":{"type":"calico-ipam"},"policy":{"k8s_certificate_authority":"/etc/x"}`:          "policy.k8s_certificate_authority",
		`"ipam":{"type":"some"},"other":"/etc/x"`:                                                "other",
		ipam(`"other":"file:///etc/shadow"`):                                                     "ipam.other",
		ipam(`"other":"file:/etc/shadow"`):                                                       "ipam.other",
		ipam(`"other":"../etc/shadow"`):                                                          "ipam.other",
		ipam(`"daemonSocket":"unix:///run/../etc/x"`):                                            "ipam.daemonSocket",
		ipam(`"kubeconfig":"/var/lib/rancher/k3s/server/cred/admin.kubeconfig"`):                 "ipam.kubeconfig",
		ipam(`"resolvConf":"/run/secrets/x"`):                                                    "ipam.resolvConf",
	} {
		r, err := Parse([]byte(`{"name":"net-a","type":"sriov","deviceID":"0000:af:06.0",`+conf+`}`), "")
		require.NoError(t, err, conf)
		err = r.NamesFiles(Files{Extra: []string{"/opt/ipam/"}, State: own})
		if bad == "" {
			assert.NoError(t, err, conf)
			continue
		}
		assert.ErrorContains(t, err, "invalid "+bad+" ", conf)
		assert.ErrorContains(t, err, "ipamPaths", conf)
	}

	// A kubeconfig's token goes to no server that the network names.
	for conf, at := range map[string]string{
		`"ipam":{"type":"calico-ipam"},"policy":{"k8s_api_root":"https://x"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}`: "policy.k8s_api_root",
		`"kubernetes":{"kubeconfig":"/etc/cni/a","K8S_API_ROOT":"https://x"},"ipam":{"type":"calico-ipam"}`:                                  "kubernetes.K8S_API_ROOT",
		ipam(`"k":{"k8s_api_root":"https://x"}`) + `,"policy":{"k8s_api_root":"https://y"}`:                                                  "ipam.k.k8s_api_root",
		ipam(`"kubernetes":{"k8s_api_root":"https://x"}`):                                                                                    "ipam.kubernetes.k8s_api_root",
	} {
		r, err := Parse([]byte(`{"name":"net-a","type":"sriov","deviceID":"0000:af:06.0",`+conf+`}`), "")
		require.NoError(t, err, conf)
		assert.ErrorContains(t, r.NamesFiles(Files{State: own}), "invalid "+at+": want none beside a kubeconfig", conf)
	}

	// A plugin that works on the node's interfaces is none for IPAM.
	for _, ipam := range []string{"host-device", "bridge", "multus"} {
		r, err := Parse([]byte(`{"name":"net-a","type":"sriov","deviceID":"0000:af:06.0","device":"eth0","ipam":{"type":"`+ipam+`"}}`), "")
		require.NoError(t, err)
		require.ErrorContains(t, r.NamesFiles(Files{State: own}), "invalid ipam.type: "+ipam+" is no IPAM plugin")
	}

	// The directory is host-local's for the network of that name.
	r, err := Parse([]byte(`{"name":"sriov","type":"sriov","deviceID":"0000:af:06.0",`+ipam(`"dataDir":"/var/lib/cni"`)+`}`), "")
	require.NoError(t, err)
	require.ErrorContains(t, r.NamesFiles(Files{State: own}), "ipam.dataDir")

	r, err = Parse([]byte(`{"deviceID":"0000:af:06.0",`+ipam(`"a":[`+strings.Repeat(`"/x/y",`, 30000)+`""]`)+`}`), "")
	require.NoError(t, err)
	require.Less(t, len(r.NamesFiles(Files{State: own}).Error()), 4000)
}

// A path is where it leads, and a directory is under each of its names.
func TestNamesFilesByLinks(t *testing.T) {
	t.Parallel()
	links := map[string]string{
		"/run/out": "/etc", "/run/cri": "/run/containerd/a", "/run/state": "/var/lib/cni/sriov", "/var/lib/cni": "/data/cni", "/opt/ipam": "/data/ipam",
		"/etc/resolv.conf": "/run/systemd/resolve/stub-resolv.conf", "/run/nowhere": "", "/run/n": "/data/cni/sriov", "/run/containerd": "/data/containerd",
	}
	var lead func(name string) (string, error)
	lead = func(name string) (string, error) {
		for at := name; at != "/"; at = path.Dir(at) {
			if to, found := links[at]; found {
				if to == "" {
					return "", fs.ErrNotExist
				}
				return lead(to + strings.TrimPrefix(name, at))
			}
		}
		return name, nil
	}
	may := Files{Extra: []string{"/opt/ipam"}, State: "/var/lib/cni/sriov", Real: lead}
	for keys, bad := range map[string]bool{
		`"dataDir":"/run/a"`:                                          false,
		`"dataDir":"/var/lib/cni/a"`:                                  false,
		`"dataDir":"/data/cni/a"`:                                     false, // another name of a usual one
		`"odd":"/data/ipam/a"`:                                        false,
		`"odd":"/opt/ipam/a"`:                                         false,
		`"resolvConf":"/etc/resolv.conf"`:                             false,
		`"resolvConf":"/var/run/systemd/resolve"`:                     false,
		`"dataDir":"/run/out"`:                                        true,
		`"dataDir":"/run/out/cron.d"`:                                 true,
		`"dataDir":"/run/cri/rootfs"`:                                 true,
		`"dataDir":"/run/containerd/x"`:                               true,
		`"dataDir":"/data/containerd/x"`:                              true,
		`"dataDir":"/run/state"`:                                      true,
		`"dataDir":"/data/cni/sriov/pci"`:                             true,
		`"dataDir":"/var/lib/cni/sriov"`:                              true,
		`"dataDir":"/run/nowhere"`:                                    true,
		`"odd":"/data/ipam/../x"`:                                     true,
		`"odd":"/data/ipamx"`:                                         true,
		`"dataDir":["` + strings.Repeat(`/run/a","`, 65) + `/run/a"]`: true,
	} {
		r, err := Parse([]byte(`{"name":"n","deviceID":"0000:af:06.0","ipam":{"type":"some",`+keys+`}}`), "")
		require.NoError(t, err, keys)
		assert.Equal(t, bad, r.NamesFiles(may) != nil, "%s", keys)
	}
	// By the name of its network host-local would write to the state.
	r, err := Parse([]byte(`{"name":"n","deviceID":"0000:af:06.0","ipam":{"type":"host-local","dataDir":"/run"}}`), "")
	require.NoError(t, err)
	require.Error(t, r.NamesFiles(may))
}

// What passes names nothing in a directory where no network may have a file, however it is
// decoded by whoever gets it.
func FuzzNamesFiles(f *testing.F) {
	for _, ipam := range []string{
		`{"type":"a","dataDir":"/run/x","k":{"kubeconfig":"/root/x"},"k":{}}`, `{"type":"a","DATADIR":"/run","dataDir":"/etc"}`,
		`{"type":"a","log_file":["/tmp/a",{"b":"unix:///run/a"}],"re\u017folvConf":"/etc/resolv.conf"}`, `{"type":"a","x":"/24","y":"/etc"}`, `{"type":7}`,
	} {
		f.Add(ipam)
	}
	f.Fuzz(func(t *testing.T, ipam string) {
		r, err := Parse([]byte(`{"name":"n","deviceID":"0000:af:06.0","ipam":`+ipam+`}`), "")
		if err != nil {
			return
		}
		if err := r.NamesFiles(Files{}); err != nil {
			require.Less(t, len(err.Error()), 6000)
			return
		}
		var plugin struct { // as an IPAM plugin has it
			IPAM struct {
				DataDir    any `json:"dataDir"`
				ResolvConf any `json:"resolvConf"`
				K          struct {
					Kubeconfig any `json:"kubeconfig"`
				} `json:"k"`
			} `json:"ipam"`
		}
		if json.Unmarshal(r.Stdin, &plugin) != nil || r.Conf.IPAM.Type == "" {
			return
		}
		for _, v := range []any{plugin.IPAM.DataDir, plugin.IPAM.ResolvConf, plugin.IPAM.K.Kubeconfig} {
			name, _ := v.(string)
			require.False(t, strings.HasPrefix(name, "/root/"), "%q got through", name)
		}
	})
}
