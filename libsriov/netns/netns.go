// SPDX-License-Identifier: Apache-2.0

// Package netns runs code in another network namespace
// (https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
package netns
