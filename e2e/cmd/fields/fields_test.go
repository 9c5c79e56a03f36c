// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "g_things.yaml"), []byte(`
spec:
  names: {kind: Thing}
  versions:
  - schema:
      openAPIV3Schema:
        description: A thing.
        properties:
          spec:
            required: [size]
            properties:
              size: {type: integer, minimum: 0, maximum: 7, default: 3, description: "How big,\n in cm."}
              parts:
                type: array
                maxItems: 2
                items: {type: object, properties: {side: {type: string, enum: ["", "a|b"], maxLength: 3}}}
`), 0o600))
	got, err := kindTables(dir)
	require.NoError(t, err)
	require.Equal(t, "\n## Thing\n\nA thing.\n\n| field | type | limits | default | meaning |\n|---|---|---|---|---|\n"+
		"| `parts` | list of object | at most 2 |  |  |\n"+
		"| `parts[].side` | string | `\"\"`, `a\\|b` |  |  |\n"+
		"| `size`* | integer | 0 to 7 | `3` | How big, in cm. |\n", got)
	_, err = kindTables(t.TempDir())
	require.Error(t, err)
}

func TestStructTable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "conf.go")
	require.NoError(t, os.WriteFile(path, []byte("package p\ntype Conf struct {\n\tA *int `json:\"a,omitempty\"` // cm\n\tR Run `json:\"run\"`\n\tx int\n}\ntype Run struct { B string `json:\"b\"` }\n"), 0o600))
	got, err := structTable(path, "Conf")
	require.NoError(t, err)
	require.Contains(t, got, "| `a` | number | cm |\n| `run.b` | string |  |\n")
	_, err = structTable(path, "None")
	require.Error(t, err)
}
