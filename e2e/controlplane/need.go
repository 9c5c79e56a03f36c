// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"io"
	"os"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// Need skips a test while the control plane is not built, because that takes
// longer than a test may. With SRIOVKIT_E2E set, as make test does, it never skips.
func Need(t interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
	Context() context.Context
}) {
	t.Helper()
	_ = os.Getenv("SRIOVKIT_SOURCES") // programs read what the test cache does not see
	if os.Getenv("SRIOVKIT_E2E") != "" {
		return
	}
	cache, err := stage.Open(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	switch built, err := artifact.HasKubernetes(t.Context(), cache); {
	case err != nil:
		t.Fatal(err)
	case !built:
		t.Skip("the control plane is not built yet; run make artifacts once")
	}
}
