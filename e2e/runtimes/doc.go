// SPDX-License-Identifier: Apache-2.0

// Package runtimes tries multus-shim below the libraries with which container runtimes
// call CNI plugins: go-cni of containerd and ocicni of CRI-O. They differ in what they
// remember of a pod, and so in whom they ask when it goes: containerd the configuration of
// the moment, CRI-O the one that the pod was set up with.
package runtimes
