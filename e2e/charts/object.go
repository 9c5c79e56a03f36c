// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// object is a manifest of a kustomize tree, and the templates that its marks stand for.
type object struct {
	fields    map[string]any
	templates []string
}

// render is "kubectl kustomize".
func render(tree string) ([]*object, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), tree)
	if err != nil {
		return nil, err
	}
	var out []*object
	for _, r := range resources.Resources() {
		m, err := r.Map()
		if err != nil {
			return nil, err
		}
		out = append(out, &object{fields: m})
	}
	return out, nil
}

// renderComponent renders a component alone, in an overlay of its own.
func renderComponent(dir string) ([]*object, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	overlay, err := os.MkdirTemp("", "charts-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(overlay)
	if overlay, err = filepath.EvalSymlinks(overlay); err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(overlay, dir)
	if err != nil {
		return nil, err
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [" + rel + "]\n"
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	return render(overlay)
}

func (o *object) kind() string { return o.fields["kind"].(string) }

func (o *object) metadata() map[string]any { return o.fields["metadata"].(map[string]any) }

func (o *object) name() string { return o.metadata()["name"].(string) }

func (o *object) annotate(key, value string) {
	a, ok := o.metadata()["annotations"].(map[string]any)
	if !ok {
		a = map[string]any{}
		o.metadata()["annotations"] = a
	}
	a[key] = value
}

// at returns the mapping at a path of keys.
func (o *object) at(path ...string) (map[string]any, error) {
	m := o.fields
	for i, key := range path {
		next, ok := m[key].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("no mapping at %s", strings.Join(path[:i+1], "."))
		}
		m = next
	}
	return m, nil
}

// container returns the one container of a workload.
func (o *object) container() (map[string]any, error) {
	spec, err := o.at("spec", "template", "spec")
	if err != nil {
		return nil, err
	}
	list, ok := spec["containers"].([]any)
	if !ok || len(list) != 1 {
		return nil, fmt.Errorf("want one container")
	}
	return list[0].(map[string]any), nil
}

// mark is a scalar, or the key of a mapping, that stands for a template: of a value, or of
// whole lines. It is short, for YAML writes long keys in another way, and comes after other
// keys, for the first line of a list's item is not a line of its own.
var mark = regexp.MustCompile(`zz-(value|block)([0-9]+)-zz(: "")?`)

func (o *object) value(template string) string { return o.mark("value", template) }

// block marks lines. In its text INDENT is the column of the mark, INDENT2 two more.
func (o *object) block(template string) string { return o.mark("block", template) }

func (o *object) mark(kind, template string) string {
	o.templates = append(o.templates, template)
	return fmt.Sprintf("zz-%s%d-zz", kind, len(o.templates)-1)
}

// orDefault puts the value of the release in the place of a field, and the field as the tree
// has it where the value is null.
func (o *object) orDefault(m map[string]any, key, path string) error {
	text := "{{- if not (kindIs \"invalid\" " + path + ") }}\n" + key + ": {{- toYaml " + path + " | nindent INDENT2 }}\n"
	if was, has := m[key]; has {
		literal, err := yaml.Marshal(map[string]any{key: was})
		if err != nil {
			return err
		}
		text += "{{- else }}\n" + escape(strings.TrimSuffix(string(literal), "\n")) + "\n"
		delete(m, key)
	}
	m[o.block(text+"{{- end }}")] = ""
	return nil
}

// ifSet adds a field that is there if a value is.
func (o *object) ifSet(m map[string]any, key, path string) {
	m[o.block("{{- with "+path+" }}\n"+key+": {{- toYaml . | nindent INDENT2 }}\n{{- end }}")] = ""
}

// setEnv makes the value of a variable that the manifest has a template.
func (o *object) setEnv(container map[string]any, name, template string) error {
	for _, e := range container["env"].([]any) {
		if entry := e.(map[string]any); entry["name"] == name {
			entry["value"] = o.value(template)
			return nil
		}
	}
	return fmt.Errorf("no environment variable %s", name)
}

// template is the YAML of an object with templates at its marks; all else is literal.
func (o *object) template(namespace string) (string, error) {
	text, err := yaml.Marshal(o.fields)
	if err != nil {
		return "", err
	}
	var out []string
	for line := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n") {
		found := mark.FindStringSubmatch(line)
		if found == nil {
			out = append(out, ownNamespace(escape(line), namespace))
			continue
		}
		at, err := strconv.Atoi(found[2])
		if err != nil || at >= len(o.templates) {
			return "", fmt.Errorf("line %q: no such mark", line)
		}
		template := o.templates[at]
		before, after, _ := strings.Cut(line, found[0])
		switch {
		case found[1] == "value":
			out = append(out, escape(before)+"{{ "+template+" | quote }}"+escape(after))
		case strings.Trim(before, " -") != "" || after != "":
			return "", fmt.Errorf("line %q: want nothing but the mark", line)
		default:
			out = append(out, expand(template, len(line)-len(strings.TrimLeft(line, " ")))...)
		}
	}
	return strings.Join(out, "\n") + "\n", nil
}

// expand gives the lines of a block their indentation.
func expand(text string, indent int) []string {
	text = strings.ReplaceAll(text, "INDENT2", fmt.Sprint(indent+2))
	text = strings.ReplaceAll(text, "INDENT", fmt.Sprint(indent))
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "{{-") {
			line = strings.Repeat(" ", indent) + line
		}
		out = append(out, line)
	}
	return out
}

// escape keeps braces of manifests from being templates.
func escape(s string) string { return strings.ReplaceAll(s, "{{", `{{ "{{" }}`) }

// ownNamespace puts in the release's namespace where the tree says its own.
func ownNamespace(line, namespace string) string {
	trimmed := strings.TrimLeft(line, " -")
	if namespace != "" && trimmed == "namespace: "+namespace {
		return strings.Replace(line, namespace, "{{ .Release.Namespace | quote }}", 1)
	}
	return line
}
