// SPDX-License-Identifier: Apache-2.0

// Package brief bounds what errors carry of somebody's input: they go to the
// runtime's log, to an event and to the kubelet at every retry.
package brief

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxText   = 60 // bytes
	maxErrors = 5
)

// Text is the start of a value, for quoting it.
func Text(text string) string { return Cut(text, maxText) }

// Cut is the start of a text of up to limit bytes, marked if something is missing.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "..."
}

// Join is errors.Join of the first five and the number of the others.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if more := len(errs) - maxErrors; more > 0 {
		errs = append(errs[:maxErrors], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}
