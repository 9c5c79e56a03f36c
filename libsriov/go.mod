module github.com/sriovkit/sriovkit/libsriov

go 1.26.0

require (
	github.com/jaypipes/pcidb v1.1.1
	github.com/k8snetworkplumbingwg/govdpa v0.1.4
	github.com/stretchr/testify v1.12.1
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/sys v0.50.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
