// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNotReached(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"refused":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"other site":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) },
		"no response": nil,
	} {
		server := httptest.NewServer(handler)
		if handler == nil {
			server.Close()
		}
		defer server.Close()
		var out strings.Builder
		require.NoError(t, run(t.Context(), []string{"-db", server.URL, "-govulncheck", "/nonexistent", "."}, &out), name)
		require.Contains(t, out.String(), "NOT CHECKED", name)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) }))
	defer server.Close()
	const imported = `{"finding":{"osv":"GO-0","trace":[{"module":"example.org/x"}]}}` + "\n"
	const inGo = `{"finding":{"osv":"GO-1","fixed_version":"v1.99.0","trace":[{"module":"stdlib","function":"F"}]}}` + "\n"
	const called = `{"finding":{"osv":"GO-2","fixed_version":"v1.2.3","trace":[{"module":"example.org/x","version":"v1.2.2","function":"F"}]}}` + "\n"
	for name, tc := range map[string]struct{ script, err, out string }{
		"nothing":        {"echo '{}'", "", ""},
		"not called":     {"echo '" + imported + "'", "", ""},
		"in Go":          {"echo '" + inGo + "'", "", ".: GO-1 in stdlib, mended in v1.99.0\n"},
		"called, twice":  {"echo '" + called + called + "'", `. reaches GO-2 in example.org/x v1.2.2; the version that mends it is "v1.2.3"`, ".: GO-2 in example.org/x, mended in v1.2.3\n"},
		"does not work":  {"echo oops >&2; exit 3", "oops", ""},
		"prints no JSON": {"echo oops", "output of govulncheck", ""},
	} {
		program := filepath.Join(t.TempDir(), "govulncheck")
		require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+tc.script), 0o755))
		var out strings.Builder
		err := run(t.Context(), []string{"-db", server.URL, "-govulncheck", program, "."}, &out)
		if tc.err == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, tc.err, name)
		}
		require.Equal(t, tc.out, out.String(), name)
	}
}
