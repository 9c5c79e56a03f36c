// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"reflect"
	"strings"
)

// structTable lists the fields of a structure that have a JSON key, those of structures of
// the same file below them.
func structTable(path, name string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return "", err
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	if structs[name] == nil {
		return "", fmt.Errorf("%s has no structure %s", path, name)
	}
	var out strings.Builder
	out.WriteString(row("key", "type", "value") + "|---|---|---|\n")
	// The embedded types.NetConf of the CNI library.
	out.WriteString(row("`cniVersion`, `name`, `type`, `ipam`, `dns`, `prevResult`, `capabilities`", "", "as in the [CNI specification](https://www.cni.dev/docs/spec/)"))
	writeStruct(&out, structs, name, "")
	return out.String(), nil
}

func writeStruct(out *strings.Builder, structs map[string]*ast.StructType, name, prefix string) {
	for _, f := range structs[name].Fields.List {
		if f.Tag == nil {
			continue
		}
		key, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		kind := strings.TrimPrefix(types.ExprString(f.Type), "*")
		if structs[kind] != nil {
			writeStruct(out, structs, kind, prefix+key+".")
			continue
		}
		switch kind {
		case "int":
			kind = "number"
		case "json.RawMessage":
			kind = "any"
		}
		out.WriteString(row("`"+prefix+key+"`", kind, f.Comment.Text()))
	}
}
