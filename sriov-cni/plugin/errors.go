package plugin

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"
)

// Error codes of this plugin's own; the CNI specification leaves those from 100
// on to plugins. Where one of its own codes fits, that is used: 4 environment,
// 6 decoding, 7 configuration, 8 namespace, 11 try again later, 50 plugin not
// available.
const (
	codeDevice  = 100 // the device is not a VF that can be used
	codeAdmin   = 101 // the PF's driver refused a setting
	codeMove    = 102 // the interface could not be given to the pod
	codeRecover = 103 // the VF could not be brought back yet
	codeCheck   = 104 // CHECK: the pod's VF is not as ADD left it
	codeIPAM    = 105 // the IPAM plugin's answer is unusable
)

// codeNotAvailable is STATUS' answer when an ADD could not work (CNI
// specification 1.1, section STATUS).
const codeNotAvailable = 50

// failure is an error on its way to the CNI runtime.
type failure struct {
	Code uint
	Err  error
	Hint string // what to look at or change next; "" if Err says it
}

func (f *failure) Error() string { return f.Err.Error() }

func (f *failure) Unwrap() error { return f.Err }

// toCNI is the specification's error object for err: the code of the outermost
// failure or, for an error that an IPAM plugin reported, that plugin's own.
func toCNI(err error) error {
	if err == nil {
		return nil
	}
	out := &types.Error{Code: types.ErrInternal, Msg: err.Error()}
	if f := (*failure)(nil); errors.As(err, &f) {
		out.Code, out.Details = f.Code, f.Hint
	} else if e := (*types.Error)(nil); errors.As(err, &e) {
		out.Code, out.Details = e.Code, e.Details
	}
	return out
}
