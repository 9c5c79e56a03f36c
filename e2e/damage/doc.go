// SPDX-License-Identifier: Apache-2.0

// Package damage does to a node with VFs in use what people, firmware and other software
// do: it pulls cables, resets and unbinds NICs, changes VF counts, and has udev and
// NetworkManager see to the interfaces. Whatever happens, a pod can be taken down, the
// next one gets its VF, and nobody else's is touched.
package damage
