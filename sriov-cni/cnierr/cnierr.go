// SPDX-License-Identifier: Apache-2.0

// Package cnierr has the errors that the plugin reports to the container runtime: with a code
// of the CNI specification and a hint at what to do.
package cnierr

import (
	"errors"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// Error codes of this plugin's own; the CNI specification leaves those from 100
// on to plugins. Where one of its own codes fits, that is used: 4 environment,
// 6 decoding, 7 configuration, 8 namespace, 11 try again later, 50 plugin not
// available.
const (
	Device  = 100 // the device is not a VF that can be used
	Admin   = 101 // the PF's driver refused a setting
	Move    = 102 // the interface could not be given to the pod
	Recover = 103 // the VF could not be brought back yet
	Check   = 104 // CHECK: the pod's VF is not as ADD left it
	IPAM    = 105 // the IPAM plugin's answer is unusable
)

// NotAvailable is STATUS' answer when an ADD could not work (CNI
// specification 1.1, section STATUS).
const NotAvailable = 50

// Error is an error as the runtime gets it.
type Error struct {
	Code uint
	Err  error
	Hint string // what to look at or change next; "" if Err says it
}

func (f *Error) Error() string { return f.Err.Error() }

func (f *Error) Unwrap() error { return f.Err }

// ToCNI is the specification's error object for err: the code of the outermost
// Error or, for an error that an IPAM plugin reported, that plugin's own.
func ToCNI(err error) error {
	if err == nil {
		return nil
	}
	out := &types.Error{Code: types.ErrInternal, Msg: err.Error()}
	if f := (*Error)(nil); errors.As(err, &f) {
		out.Code, out.Details = f.Code, f.Hint
	} else if e := (*types.Error)(nil); errors.As(err, &e) {
		out.Code, out.Details = e.Code, e.Details
	}
	out.Msg, out.Details = cut(out.Msg), cut(out.Details)
	return out
}

// longest is how much of an error the runtime gets, which has it written into a pod's events:
// what a network's configuration or an IPAM plugin's answer says comes from anybody.
const longest = 4 << 10 // bytes

func cut(text string) string {
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "..."
}

// New makes an error with a code; hint is what to look at or change next.
func New(code uint, err error, hint string) error { return &Error{Code: code, Err: err, Hint: hint} }

// Busy makes the error of a condition that ends by itself: the runtime is to try again later
// (code 11).
func Busy(err error, hint string) error { return New(types.ErrTryAgainLater, err, hint) }

// IO is an error of the state directory; nil for nil.
func IO(err error) error {
	if err == nil {
		return nil
	}
	return New(types.ErrIOFailure, err, "")
}
