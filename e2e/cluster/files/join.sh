# Prepares an emulated node for containerd and kubelet. Runs on the node; the
# configuration files are in place already.
set -eu
modprobe -a overlay br_netfilter veth bridge xt_comment nft_compat nft_chain_nat xt_MASQUERADE
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
mkdir -p "$CNI_BIN" /var/log/pods
cp /mnt/cluster/cni/* "$CNI_BIN"
ln -sf /mnt/cluster/bin/* /usr/local/bin/
# The API server's service address; there is no kube-proxy.
for chain in PREROUTING OUTPUT; do
	iptables -w -t nat -A $chain -d 10.96.0.1/32 -p tcp --dport 443 -j DNAT --to-destination 10.0.2.2:6443
done
