package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/image"
)

const devicePluginImage = "docker.io/sriovkit/device-plugin:dev"

// TestClusterDevicePlugin installs the device plugin with its own manifest,
// without privileges, and lets the real kubelet see VFs come, change driver and
// go; pods get them.
func TestClusterDevicePlugin(t *testing.T) {
	k := start(t, cluster.Config{})
	node := k.Nodes[0]
	installDevicePlugin(t, k)
	awaitAllocatable(t, k, "vfs", "0")

	on := func(script string) string {
		out, err := node.Output(t.Context(), "sh", "-ec", "cd /sys/bus/pci/devices/0000:01:00.0\n"+script)
		require.NoError(t, err)
		return strings.TrimSpace(out)
	}
	on("ip link set $(ls net) up; echo 3 >sriov_numvfs")
	awaitAllocatable(t, k, "vfs", "3")

	requestDevice(t, k, "one", "vfs")
	kubectl(t, k, "wait", "pod/one", "--for=condition=Ready", "--timeout=120s")
	address := kubectl(t, k, "exec", "one", "--", "sh", "-c", "echo $PCIDEVICE_EXAMPLE_COM_VFS")
	vfs := strings.Fields(on("for i in 0 1 2; do basename $(readlink virtfn$i); done"))
	require.Contains(t, vfs, address)
	assert.JSONEq(t, `{"type":"pci","version":"1.1.0","pci":{"pci-address":"`+address+`","pf-pci-address":"0000:01:00.0"}}`,
		on("cat /var/run/k8s.cni.cncf.io/devinfo/dp/example.com-vfs-"+address+"-device.json"))

	// Kubelet restarts: the same plugin process is found again.
	require.NoError(t, node.StopKubelet(t.Context()))
	require.NoError(t, node.StartKubelet(t.Context()))
	awaitAllocatable(t, k, "vfs", "3")

	// A free VF changes to vfio-pci and moves to the other pool.
	free := vfs[0]
	if free == address {
		free = vfs[1]
	}
	on("echo vfio-pci >../" + free + "/driver_override; echo " + free + " >../" + free + "/driver/unbind; echo " + free + " >/sys/bus/pci/drivers_probe")
	awaitAllocatable(t, k, "dpdk", "1")
	awaitAllocatable(t, k, "vfs", "2")
	requestDevice(t, k, "two", "dpdk")
	kubectl(t, k, "wait", "pod/two", "--for=condition=Ready", "--timeout=120s")
	require.Equal(t, free, kubectl(t, k, "exec", "two", "--", "sh", "-c", "echo $PCIDEVICE_EXAMPLE_COM_DPDK"))
	group := on("basename $(readlink ../" + free + "/iommu_group)")
	kubectl(t, k, "exec", "two", "--", "sh", "-c", "test -c /dev/vfio/vfio && test -c /dev/vfio/"+group)
	kubectl(t, k, "delete", "pod", "two", "--timeout=60s")

	// All VFs go. The one in use is no longer for anyone else, and forgotten
	// when its pod is gone.
	on("echo 0 >sriov_numvfs")
	awaitAllocatable(t, k, "vfs", "0")
	awaitAllocatable(t, k, "dpdk", "0")
	require.Equal(t, "1", resourceOf(t, k, "capacity", "vfs"), "the device in use counts, unhealthy")
	kubectl(t, k, "delete", "pod", "one", "--timeout=60s")
	require.Eventually(t, func() bool { return resourceOf(t, k, "capacity", "vfs") == "0" }, time.Minute, time.Second)
}

// installDevicePlugin applies the module's manifest with an image of its own
// build, and waits until kubelet watches its pools.
func installDevicePlugin(t *testing.T, k *cluster.Cluster) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "sriovdp")
	build := exec.CommandContext(t.Context(), "go", "-C", "../../device-plugin", "build", "-o", binary, "./cmd/sriovdp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	archive, err := os.Create(filepath.Join(dir, "device-plugin.tar"))
	require.NoError(t, err)
	require.NoError(t, image.WriteArchive(archive, image.Image{
		Name: devicePluginImage, Files: map[string]string{"/usr/bin/sriovdp": binary}, Entrypoint: []string{"/usr/bin/sriovdp"},
	}))
	require.NoError(t, archive.Close())
	require.NoError(t, k.Import(t.Context(), archive.Name()))
	manifest, err := os.ReadFile("../../device-plugin/deploy/daemonset.yaml")
	require.NoError(t, err)
	require.NoError(t, k.Apply(t.Context(), string(manifest)))
	kubectl(t, k, "-n", "kube-system", "rollout", "status", "daemonset/sriovdp", "--timeout=120s")
}

// requestDevice creates a pod that asks for one device.
func requestDevice(t *testing.T, k *cluster.Cluster, name, resource string) {
	t.Helper()
	require.NoError(t, k.Apply(t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: %s
    command: [sleep, infinity]
    resources: {limits: {example.com/%s: 1}}
`, name, cluster.BusyboxImage, resource)))
}

func resourceOf(t *testing.T, k *cluster.Cluster, kind, resource string) string {
	t.Helper()
	return kubectl(t, k, "get", "node", "node1", "-o", `jsonpath={.status.`+kind+`.example\.com/`+resource+`}`)
}

// awaitAllocatable waits until the node says so; kubelet tells the API server
// of changes by its own clock.
func awaitAllocatable(t *testing.T, k *cluster.Cluster, resource, count string) {
	t.Helper()
	begun := time.Now()
	last := ""
	require.Eventually(t, func() bool {
		last = resourceOf(t, k, "allocatable", resource)
		return last == count
	}, time.Minute, 100*time.Millisecond, "allocatable %s", resource)
	t.Logf("%s %s allocatable after %.1fs", count, resource, time.Since(begun).Seconds())
}
