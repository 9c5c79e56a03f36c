// SPDX-License-Identifier: Apache-2.0

// Package nl is one netlink socket and its requests. Messages are composed and
// parsed with vishvananda/netlink/nl; this package adds what that library's
// socket lacks: extended acknowledgements for every request, replies of any
// length (a PF with 256 VFs answers with more than the library's fixed
// buffer), dumps that are repeated when the kernel says that they were
// interrupted, a socket in another network namespace, and a count of requests.
//
// https://docs.kernel.org/userspace-api/netlink/intro.html
package nl
