module github.com/sriovkit/sriovkit/multus-shim

go 1.26.0
