// SPDX-License-Identifier: Apache-2.0

package controlplane

import "slices"

// HostFromNode is the address at which an emulated node sees the loopback of the
// namespace it runs in.
const HostFromNode = "10.0.2.2"

func (c *ControlPlane) etcdFlags() []string {
	client, peer := "http://"+c.address+":2379", "http://"+c.address+":2380"
	return []string{
		"--data-dir=" + c.file("etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
		"--unsafe-no-fsync", // the data does not outlive the process
		"--log-level=warn",
	}
}

func (c *ControlPlane) apiserverFlags() []string {
	return slices.Concat([]string{
		"--etcd-servers=http://" + c.address + ":2379",
		"--bind-address=" + c.address, "--advertise-address=" + c.address, "--secure-port=6443",
		"--tls-cert-file=" + c.file("kube-apiserver.crt"), "--tls-private-key-file=" + c.file("kube-apiserver.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file("service-accounts.crt"),
		"--service-account-signing-key-file=" + c.file("service-accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--endpoint-reconciler-type=none", // nobody routes to a loopback address
		"--kubelet-client-certificate=" + c.file("admin.crt"), "--kubelet-client-key=" + c.file("admin.key"),
		"--kubelet-certificate-authority=" + c.file("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP", // else exec and logs ask DNS for the node's name
	}, c.config.ServerFlags)
}

func (c *ControlPlane) controllerManagerFlags() []string {
	return append(c.controllerFlags("kube-controller-manager"),
		"--service-account-private-key-file="+c.file("service-accounts.key"), "--root-ca-file="+c.file("ca.crt"),
		"--use-service-account-credentials", // else its role does not suffice to remove the not-ready taint
		"--service-cluster-ip-range=10.96.0.0/16",
	)
}

func (c *ControlPlane) schedulerFlags() []string { return c.controllerFlags("kube-scheduler") }

// controllerFlags are those the controller manager and the scheduler share. The
// default request rate makes a start several seconds longer.
func (c *ControlPlane) controllerFlags(name string) []string {
	k := c.file(name + ".kubeconfig")
	return []string{
		"--kubeconfig=" + k, "--authentication-kubeconfig=" + k, "--authorization-kubeconfig=" + k,
		"--bind-address=" + c.address, "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000",
	}
}
