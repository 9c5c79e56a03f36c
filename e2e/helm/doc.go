// SPDX-License-Identifier: Apache-2.0

// Package helm tries the charts with Helm itself, from its Go module: what they render, what
// their schemas refuse, and their way through a cluster. It is a module of its own, outside
// the workspace, for Helm takes minutes to compile; "make test-helm" runs it.
package helm
