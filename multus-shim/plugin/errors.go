// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"errors"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
)

// codedError gives an error one of the codes of the CNI specification.
type codedError struct {
	code uint
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func coded(code uint, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

// maxMessage bounds what the runtime logs and the kubelet repeats with every try,
// bytes.
const maxMessage = 4096

// cniError is what the runtime sees: the text, with the first code in it.
func cniError(err error) error {
	if err == nil {
		return nil
	}
	return types.NewError(cmp.Or(firstCode(err), types.ErrInternal), brief.Cut("multus-shim: "+err.Error(), maxMessage), "")
}

// withConsequence joins a cause, whose code counts also where it has none of its own, and what
// went wrong because of it.
func withConsequence(cause, consequence error) error {
	if consequence == nil {
		return cause
	}
	return errors.Join(coded(cmp.Or(firstCode(cause), types.ErrInternal), cause), consequence)
}

// firstCode is the code that this plugin or a delegate gave to the cause: of joined errors the
// first that has one.
func firstCode(err error) uint {
	switch e := err.(type) { //nolint:errorlint // this walks the tree itself
	case nil:
		return 0
	case *codedError:
		return e.code
	case *types.Error:
		return e.Code
	case interface{ Unwrap() error }:
		return firstCode(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if code := firstCode(err); code != 0 {
				return code
			}
		}
	}
	return 0
}
