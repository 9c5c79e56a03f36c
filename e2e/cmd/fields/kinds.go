// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// definition is a CustomResourceDefinition as far as it says what users write.
type definition struct {
	Spec struct {
		Names    struct{ Kind string }
		Versions []struct {
			Schema struct {
				OpenAPIV3Schema schema `yaml:"openAPIV3Schema"`
			}
		}
	}
}

// schema is a JSON schema as controller-gen writes it.
type schema struct {
	Description string
	Type        string
	Format      string
	Pattern     string
	Default     any
	Enum        []any
	Minimum     *int64
	Maximum     *int64
	MaxLength   *int64 `yaml:"maxLength"`
	MaxItems    *int64 `yaml:"maxItems"`
	IntOrString bool   `yaml:"x-kubernetes-int-or-string"`
	Required    []string
	Properties  map[string]schema
	Items       *schema
	Additional  *schema `yaml:"additionalProperties"`
}

func kindTables(dir string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*_*.yaml"))
	if err != nil {
		return "", err
	}
	if len(paths) == 0 {
		return "", fmt.Errorf("no definitions in %s", dir)
	}
	var out strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		var d definition
		if err := yaml.Unmarshal(text, &d); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		for _, v := range d.Spec.Versions {
			top := v.Schema.OpenAPIV3Schema
			fmt.Fprintf(&out, "\n## %s\n\n%s\n\n", d.Spec.Names.Kind, strings.Join(strings.Fields(top.Description), " "))
			out.WriteString(row("field", "type", "limits", "default", "meaning") + "|---|---|---|---|---|\n")
			top.Properties["spec"].write(&out, "")
			if status := top.Properties["status"]; len(status.Properties) > 0 {
				out.WriteString("\nReported in `status`:\n\n" + row("field", "type", "limits", "default", "meaning") + "|---|---|---|---|---|\n")
				status.write(&out, "")
			}
		}
	}
	return out.String(), nil
}

// write adds a row for each field, those of an object below it.
func (s schema) write(out *strings.Builder, prefix string) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f := s.Properties[name]
		path := prefix + name
		mark := ""
		if slices.Contains(s.Required, name) {
			mark = "*"
		}
		out.WriteString(row("`"+path+"`"+mark, f.kind(), f.limits(), f.fallback(), f.Description))
		f.below(out, path)
	}
}

// below writes the fields of an object, or of the objects in a list or map. Types of
// Kubernetes itself are described there.
func (s schema) below(out *strings.Builder, path string) {
	if strings.HasSuffix(path, "conditions") || strings.HasSuffix(path, "elector") {
		return
	}
	switch {
	case s.Items != nil:
		s.Items.below(out, path+"[]")
	case s.Additional != nil:
		s.Additional.below(out, path+".*")
	default:
		s.write(out, path+".")
	}
}

func (s schema) kind() string {
	switch {
	case s.IntOrString:
		return "number or string"
	case s.Items != nil:
		return "list of " + s.Items.kind()
	case s.Additional != nil:
		return "map of " + s.Additional.kind()
	}
	return s.Type
}

func (s schema) limits() string {
	if s.Items != nil && s.MaxItems != nil {
		return strings.TrimSuffix(fmt.Sprintf("at most %d; %s", *s.MaxItems, s.Items.limits()), "; ")
	}
	var all []string
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, fmt.Sprintf("`%v`", quoted(v)))
		}
		all = append(all, strings.Join(values, ", "))
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		all = append(all, fmt.Sprintf("%d to %d", *s.Minimum, *s.Maximum))
	case s.Minimum != nil:
		all = append(all, fmt.Sprintf("at least %d", *s.Minimum))
	case s.Maximum != nil:
		all = append(all, fmt.Sprintf("at most %d", *s.Maximum))
	}
	if s.MaxLength != nil && len(s.Enum) == 0 {
		all = append(all, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	if s.Pattern != "" {
		all = append(all, "`"+s.Pattern+"`")
	}
	return strings.Join(all, "; ")
}

func (s schema) fallback() string {
	if s.Default == nil {
		return ""
	}
	return fmt.Sprintf("`%v`", quoted(s.Default))
}

// quoted shows an empty string.
func quoted(v any) any {
	if v == "" {
		return `""`
	}
	return v
}
