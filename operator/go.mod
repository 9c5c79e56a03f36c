module github.com/sriovkit/sriovkit/operator

go 1.26.0

require github.com/sriovkit/sriovkit/libsriov v0.1.0

replace github.com/sriovkit/sriovkit/libsriov => ../libsriov
