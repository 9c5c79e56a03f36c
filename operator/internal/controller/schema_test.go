// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// What the API server refuses by the schemas alone, with no webhook.
func TestRefusedBySchema(t *testing.T) {
	c := newCluster(t)
	const head = "apiVersion: sriovnetwork.openshift.io/v1\nmetadata: {name: refused, namespace: sriov-network-operator}\n"
	policy := func(fields string) string {
		return head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: nics, nodeSelector: {}, numVfs: 4, nicSelector: {pfNames: [ens1]}, " + fields + "}\n"
	}
	pfNames := func(name string) string {
		return head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: nics, nodeSelector: {}, numVfs: 4, nicSelector: {pfNames: ['" + name + "']}}\n"
	}
	network := func(fields string) string {
		return head + "kind: SriovNetwork\nspec: {resourceName: nics, " + fields + "}\n"
	}
	pool := func(fields string) string { return head + "kind: SriovNetworkPoolConfig\nspec: {" + fields + "}\n" }

	for name, tc := range map[string]struct{ manifest, says string }{
		"range of one number":     {pfNames("ens1#5"), "pfNames[0]"},
		"range downwards":         {pfNames("ens1#3-1"), "counts upwards"},
		"range of letters":        {pfNames("ens1#a-b"), "pfNames[0]"},
		"range beyond numVfs":     {pfNames("ens1#0-9"), "below numVfs"},
		"two ranges glued":        {pfNames("ens1#0-1#2-3"), "pfNames[0]"},
		"range without a PF":      {pfNames("#0-1"), "pfNames[0]"},
		"priority 100":            {policy("priority: 100"), "priority"},
		"deviceType foo":          {policy("deviceType: foo"), "deviceType"},
		"vfio and RDMA":           {policy("deviceType: vfio-pci, isRdma: true"), "isRdma needs deviceType netdevice"},
		"vDPA and vfio":           {policy("vdpaType: vhost, deviceType: vfio-pci"), "vdpaType needs"},
		"vDPA and RDMA":           {policy("vdpaType: virtio, isRdma: true"), "vdpaType needs"},
		"vDPA foo":                {policy("vdpaType: foo"), "vdpaType"},
		"switchdev on InfiniBand": {policy("eSwitchMode: switchdev, linkType: ib"), "switchdev needs linkType eth"},
		"mtu 0":                   {policy("mtu: 0"), "mtu"},
		"negative numVfs":         {head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: nics, nodeSelector: {}, numVfs: -1, nicSelector: {}}\n", "numVfs"},
		"resource name":           {head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: a/b, nodeSelector: {}, numVfs: 1, nicSelector: {}}\n", "resourceName"},
		"address":                 {head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: a, nodeSelector: {}, numVfs: 1, nicSelector: {rootDevices: ['01:00.0']}}\n", "rootDevices[0]"},
		"300 addresses":           {head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: a, nodeSelector: {}, numVfs: 1, nicSelector: {rootDevices: [" + strings.Repeat("'0000:3b:00.0',", 300) + "]}}\n", "at most 256 items"},
		"glued with letters":      {pfNames("ens1#a-b#0-1"), "pfNames[0]"},
		"trunk 4096":              {head + "kind: OVSNetwork\nspec: {resourceName: nics, trunk: [{id: 4095}, {minID: 1, maxID: 4096}]}\n", "spec.trunk[1]"},
		"trunk -1":                {head + "kind: OVSNetwork\nspec: {resourceName: nics, trunk: [{minID: -1}]}\n", "spec.trunk[0]"},
		"a text beyond its limit": {network("ipam: '" + strings.Repeat("[", 240<<10) + "'"), "ipam"},
		"netFilter with vendor":   {head + "kind: SriovNetworkNodePolicy\nspec: {resourceName: a, nodeSelector: {}, numVfs: 1, nicSelector: {netFilter: 'openstack/NetworkID:x', vendor: '8086'}}\n", "stands alone"},
		"vlan 4095":               {network("vlan: 4095"), "vlan"},
		"rates":                   {network("minTxRate: 9, maxTxRate: 5"), "minTxRate has to be at most maxTxRate"},
		"spoofChk as a boolean":   {network("spoofChk: 'true'"), "spoofChk"},
		"network resource name":   {head + "kind: SriovNetwork\nspec: {resourceName: \"a\\nb\"}\n", "resourceName"},
		"maxUnavailable 0%":       {pool("maxUnavailable: 0%"), "maxUnavailable"},
		"maxUnavailable 101%":     {pool("maxUnavailable: 101%"), "maxUnavailable"},
		"maxUnavailable abc":      {pool("maxUnavailable: abc"), "maxUnavailable"},
		"maxUnavailable -1":       {pool("maxUnavailable: -1"), "maxUnavailable"},
		"offload pool with nodes": {pool("ovsHardwareOffloadConfig: {name: x}, maxUnavailable: 1"), "ovsHardwareOffloadConfig excludes"},
		"a second config":         {head + "kind: SriovOperatorConfig\nspec: {}\n", "named default"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &unstructured.Unstructured{}
			require.NoError(t, yaml.Unmarshal([]byte(tc.manifest), &obj.Object))
			require.ErrorContains(t, c.Create(t.Context(), obj, client.FieldValidation(metav1.FieldValidationStrict)), tc.says)
		})
	}
}

// Lists that are too long are refused for that alone. A pattern of the items would be
// applied to each of them first, and each complaint compared with all others.
func TestListsAreCountedFirst(t *testing.T) {
	c := newCluster(t)
	for field, item := range map[string]string{"rootDevices": "no-such-address", "pfNames": "a b"} {
		policy := policy("long", "nowhere")
		list := slices.Repeat([]string{item}, 4000)
		for i := range list {
			list[i] = fmt.Sprintf("%s %d", item, i)
		}
		policy.Spec.NicSelector = v1.SriovNetworkNicSelector{RootDevices: list}
		if field == "pfNames" {
			policy.Spec.NicSelector = v1.SriovNetworkNicSelector{PfNames: list}
		}
		oneComplaint(t, c.Create(t.Context(), policy), "spec.nicSelector."+field)
	}
	network := &v1.OVSNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "long"}}
	network.Spec.ResourceName = "nics"
	for i := range 5000 {
		network.Spec.Trunk = append(network.Spec.Trunk, &v1.TrunkConfig{ID: new(uint(4096 + i))})
	}
	oneComplaint(t, c.Create(t.Context(), network), "spec.trunk")
}

// oneComplaint wants an object refused because a list of it is too long. The other cause is
// the API server's word that it did not look further.
func oneComplaint(t *testing.T, err error, field string) {
	t.Helper()
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	causes := status.Status().Details.Causes
	require.LessOrEqual(t, len(causes), 2)
	require.Equal(t, field, causes[0].Field)
	require.Contains(t, causes[0].Message, "at most")
}

// Manifests that other installations carry apply unchanged.
func TestAcceptedBySchema(t *testing.T) {
	c := newCluster(t)
	for _, pattern := range []string{"../../config/samples/*.yaml", "testdata/legacy/*.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			t.Run(filepath.Base(f), func(t *testing.T) {
				b, err := os.ReadFile(f)
				require.NoError(t, err)
				out, err := c.plane.Kubectl(t.Context(), strings.NewReader(string(b)), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
				require.NoError(t, err, out)
			})
		}
	}
}

// Every example of the pages is one that the API server takes. Of kinds that others define,
// and of values, only the form is checked.
func TestExamplesOfPages(t *testing.T) {
	c := newCluster(t)
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	fence := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, block := range fence.FindAllSubmatch(text, -1) {
			for doc := range strings.SplitSeq(string(block[1]), "\n---\n") {
				var head struct{ APIVersion, Kind string }
				require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &map[string]any{}), "%s: %s", page, doc)
				require.NoError(t, yaml.Unmarshal([]byte(doc), &head))
				switch group, _, _ := strings.Cut(head.APIVersion, "/"); group {
				case "", "kubevirt.io", "machineconfiguration.openshift.io":
					continue
				case "v1", v1.GroupVersion.Group, "k8s.cni.cncf.io":
				default:
					t.Errorf("%s: nobody checks kind %s of %s", page, head.Kind, head.APIVersion)
				}
				out, err := c.plane.Kubectl(t.Context(), strings.NewReader(doc), "apply", "--dry-run=server", "--validate=strict", "-f", "-")
				require.NoError(t, err, "%s: %s\n%s", page, doc, out)
				require.NoError(t, renders(head.Kind, doc), "%s: %s", page, doc)
			}
		}
	}
}

// renders is why a network does not become a configuration for its plugin; nil for other kinds.
func renders(kind, doc string) error {
	var err error
	switch kind {
	case "SriovNetwork":
		var n v1.SriovNetwork
		if err = yaml.Unmarshal([]byte(doc), &n); err == nil {
			_, err = nad.Sriov(n.Name, &n.Spec)
		}
	case "SriovIBNetwork":
		var n v1.SriovIBNetwork
		if err = yaml.Unmarshal([]byte(doc), &n); err == nil {
			_, err = nad.IB(n.Name, &n.Spec)
		}
	}
	return err
}

// A daemon's rights end at its own node, and there at the status and its own wish.
func TestDaemonWritesToItsOwnNodeOnly(t *testing.T) {
	c := newCluster(t)
	c.node(t, "mine", nil)
	c.node(t, "theirs", nil)
	daemon, err := client.New(c.as("sriov-network-config-daemon", map[string][]string{"authentication.kubernetes.io/node-name": {"mine"}}), client.Options{Scheme: c.scheme})
	require.NoError(t, err)
	merge := func(node, patch string, status bool) error {
		s := &v1.SriovNetworkNodeState{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: node}}
		p := client.RawPatch("application/merge-patch+json", []byte(patch))
		if status {
			return daemon.Status().Patch(ctx, s, p)
		}
		return daemon.Patch(ctx, s, p)
	}
	wish := `{"metadata":{"annotations":{"sriovnetwork.openshift.io/desired-state":"Idle"}}}`
	c.eventually(t, func(t *assert.CollectT) { // until the policy is in force
		require.True(t, apierrors.IsInvalid(merge("theirs", wish, false)) || apierrors.IsForbidden(merge("theirs", wish, false)))
	})
	require.NoError(t, merge("mine", `{"status":{"syncStatus":"InProgress"}}`, true))
	require.NoError(t, merge("mine", wish, false))
	require.Error(t, merge("theirs", `{"status":{"syncStatus":"InProgress"}}`, true))
	require.ErrorContains(t, merge("mine", `{"spec":{"interfaces":[{"pciAddress":"x"}]}}`, false), "may not write the spec")
	require.ErrorContains(t, merge("mine", `{"metadata":{"annotations":{"sriovnetwork.openshift.io/current-state":"DrainComplete"}}}`, false), "may only write the annotation")
	require.ErrorContains(t, merge("mine", `{"metadata":{"annotations":{"sriovnetwork.openshift.io/pods-answer":"u=gone"}}}`, false), "may only write the annotation")
	for _, patch := range []string{
		`{"metadata":{"finalizers":["example.com/hold"]}}`, `{"metadata":{"labels":{"a":"b"}}}`, `{"metadata":{"ownerReferences":null}}`,
	} {
		require.ErrorContains(t, merge("mine", patch, false), "finalizers, labels or owner references")
	}
	require.NoError(t, merge("mine", `{"metadata":{"annotations":{"sriovnetwork.openshift.io/drain-request":"1","sriovnetwork.openshift.io/drain-vfs":"0000:01:10.0","sriovnetwork.openshift.io/drain-pods":"default/user","sriovnetwork.openshift.io/pods-asked":"u"}}}`, false))
	require.NoError(t, merge("mine", `{"metadata":{"annotations":{"sriovnetwork.openshift.io/drain-request":null,"sriovnetwork.openshift.io/drain-vfs":null,"sriovnetwork.openshift.io/drain-pods":null,"sriovnetwork.openshift.io/pods-asked":null}}}`, false))
	require.True(t, apierrors.IsForbidden(daemon.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "mine"}},
		client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`)))))
}

// A DaemonSet that another tool made is replaced, not merged with.
func TestConfigTakesOverDaemonSets(t *testing.T) {
	c := newCluster(t)
	key := client.ObjectKey{Namespace: ns, Name: "sriov-device-plugin"}
	var ours appsv1.DaemonSet
	c.eventually(t, func(t *assert.CollectT) { require.NoError(t, c.Get(ctx, key, &ours)) })

	foreign := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: key.Name}}
	labels := map[string]string{"name": "other"}
	foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	foreign.Spec.Template.Labels = labels
	foreign.Spec.Template.Spec = corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "wait", Image: "i"}}, Containers: []corev1.Container{{Name: "c", Image: "i"}},
	}
	// Between these two the operator may be first; then there is nothing to take over.
	c.eventually(t, func(t *assert.CollectT) {
		_ = c.Delete(ctx, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: key.Name}})
		require.NoError(t, c.Create(ctx, foreign.DeepCopy()))
	})
	c.eventually(t, func(t *assert.CollectT) {
		var now appsv1.DaemonSet
		require.NoError(t, c.Get(ctx, key, &now))
		require.Equal(t, map[string]string{"app": key.Name}, now.Spec.Selector.MatchLabels)
		require.Empty(t, now.Spec.Template.Spec.InitContainers)
	})
}

func TestConfigSaysWhatItIgnores(t *testing.T) {
	c := newCluster(t)
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	c.edit(t, cfg, func() {
		cfg.Spec.EnableOvsOffload, cfg.Spec.ConfigurationMode, cfg.Spec.LogLevel = true, "systemd", 2
		cfg.Spec.FeatureGates = map[string]bool{"parallelNicConfig": true, "manageSoftwareBridges": true, "mellanoxFirmwareReset": false, "blockDevicePluginUntilConfigured": true}
		cfg.Spec.ConfigDaemonEnvVars = map[string]string{"A": "b"}
	})
	t.Cleanup(func() {
		c.edit(t, cfg, func() {
			cfg.Spec.EnableOvsOffload, cfg.Spec.ConfigurationMode, cfg.Spec.LogLevel, cfg.Spec.ConfigDaemonEnvVars = false, "", 0, nil
			cfg.Spec.FeatureGates = nil
		})
	})
	c.eventually(t, func(t *assert.CollectT) {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(cfg), cfg))
		require.Equal(t, v1.ReasonConfigUnsupported, condition(t, cfg.Status.Conditions, v1.ConditionReady).Reason)
		require.Equal(t, "not acted on: configurationMode systemd; enableOvsOffload; featureGates: manageSoftwareBridges", condition(t, cfg.Status.Conditions, v1.ConditionComplete).Message)
		var ds appsv1.DaemonSet
		require.NoError(t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "sriov-network-config-daemon"}, &ds))
		require.Contains(t, ds.Spec.Template.Spec.Containers[0].Command, "-v=2")
		require.Contains(t, ds.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "A", Value: "b"})
	})
}
