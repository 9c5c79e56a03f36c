module github.com/sriovkit/sriovkit/libsriov

go 1.26.0
