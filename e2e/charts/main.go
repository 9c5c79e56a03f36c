// SPDX-License-Identifier: Apache-2.0

// The charts command makes the Helm charts. Their templates are the kustomize trees with
// values put in at named places, so that a manifest is described once; what only charts have
// (values, their schema, objects that kustomize leaves to the user) is in the directories
// charts/ of the modules.
//
// It is a module of its own, outside the workspace, for kustomize's library.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// source is a chart and the kustomize tree that it is made of.
type source struct {
	dir  string // of what only the chart has
	tree string // kustomize tree
	// namespace of the tree, which becomes the release's; empty keeps namespaces.
	namespace string
	// keep reports whether objects of a kind belong in the chart.
	keep func(kind string) bool
	edit map[string]func(*object) error // by kind/name; each has to be there
	// optional components, whose objects are there if a value is true.
	optional []string
	registry place // where the chart names the registry of its images
}

// place is a text that is once in a file of a chart; the zero place is nowhere.
type place struct{ file, text string }

var sources = []source{
	{
		dir: "operator/charts/sriov-network-operator-crds", tree: "operator/config", keep: isCRD,
	},
	{
		dir: "operator/charts/sriov-network-operator", tree: "operator/config", namespace: "sriov-network-operator",
		keep:     func(kind string) bool { return !isCRD(kind) && kind != "Namespace" },
		optional: []string{"operator/config/components/monitoring", "operator/config/components/network-policy"},
		registry: place{"values.yaml", "\n  registry: sriovkit\n"},
		edit: map[string]func(*object) error{
			"Deployment/sriov-network-operator": editOperator,
		},
	},
	{
		dir: "multus-shim/charts/multus-shim", tree: "multus-shim/deploy", namespace: "kube-system", keep: func(string) bool { return true },
		registry: place{"templates/_helpers.tpl", `"sriovkit/multus-shim:%s"`},
		edit:     map[string]func(*object) error{"DaemonSet/multus-shim": editMultus},
	},
}

func isCRD(kind string) bool { return kind == "CustomResourceDefinition" }

func main() {
	checkout := flag.String("checkout", "../..", "`directory` of the checkout")
	out := flag.String("o", "", "`directory` to write charts to; bin/charts of the checkout if empty")
	version := flag.String("version", "v0.0.0-dev", "`version` of the charts, and tag of the images; v0.0.0-dev takes images tagged dev")
	registry := flag.String("registry", defaultRegistry, "`registry` and path that the charts take images from by default")
	flag.Parse()
	if err := build(*checkout, cmp.Or(*out, filepath.Join(*checkout, "bin", "charts")), *version, *registry); err != nil {
		fmt.Fprintln(os.Stderr, "charts:", err)
		os.Exit(1)
	}
}

// defaultRegistry is the one that the sources of the charts name.
const defaultRegistry = "sriovkit"

var registryName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*$`)

var semver = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

// build writes every chart as a directory and as the archive that registries take.
func build(checkout, out, version, registry string) error {
	if !semver.MatchString(version) {
		return fmt.Errorf("-version %q: want one such as v0.1.0", version)
	}
	if !registryName.MatchString(registry) {
		return fmt.Errorf("-registry %q: want one such as registry.example:5000/sriovkit", registry)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(out, ".charts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var names []string
	for _, s := range sources {
		name := filepath.Base(s.dir)
		if err := s.write(checkout, filepath.Join(work, name), version); err != nil {
			return fmt.Errorf("chart %s: %w", name, err)
		}
		if err := s.setRegistry(filepath.Join(work, name), registry); err != nil {
			return fmt.Errorf("chart %s: %w", name, err)
		}
		archive, err := pack(work, name)
		if err != nil {
			return err
		}
		file := name + "-" + strings.TrimPrefix(version, "v") + ".tgz"
		if err := os.WriteFile(filepath.Join(work, file), archive, 0o644); err != nil {
			return err
		}
		names = append(names, name, file)
	}
	for _, name := range names { // all charts are good by now
		if err := os.RemoveAll(filepath.Join(out, name)); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(work, name), filepath.Join(out, name)); err != nil {
			return err
		}
	}
	return nil
}

// write makes the directory of one chart.
func (s source) write(checkout, to, version string) error {
	if err := os.CopyFS(to, os.DirFS(filepath.Join(checkout, s.dir))); err != nil {
		return err
	}
	objects, err := render(filepath.Join(checkout, s.tree))
	if err != nil {
		return err
	}
	edited := map[string]bool{}
	files := map[string][]string{}
	for _, o := range objects {
		if !s.keep(o.kind()) {
			continue
		}
		key := o.kind() + "/" + o.name()
		if edit := s.edit[key]; edit != nil {
			if err := edit(o); err != nil {
				return fmt.Errorf("%s of %s: %w", key, s.tree, err)
			}
			edited[key] = true
		}
		if o.kind() == "ServiceAccount" {
			o.pullSecrets()
		}
		if isCRD(o.kind()) {
			o.annotate("helm.sh/resource-policy", "keep") // the objects of the kind go with it
		}
		text, err := o.template(s.namespace)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", key, s.tree, err)
		}
		file := strings.ToLower(o.kind()) + ".yaml"
		files[file] = append(files[file], text)
	}
	for _, tree := range s.optional {
		objects, err := renderComponent(filepath.Join(checkout, tree))
		if err != nil {
			return err
		}
		for _, o := range objects {
			text, err := o.optional(s.namespace)
			if err != nil {
				return fmt.Errorf("%s/%s of %s: %w", o.kind(), o.name(), tree, err)
			}
			file := strings.ToLower(o.kind()) + ".yaml"
			files[file] = append(files[file], text)
		}
	}
	for key := range s.edit {
		if !edited[key] {
			return fmt.Errorf("%s is not in %s any more: change the editor of the chart", key, s.tree)
		}
	}
	dir := filepath.Join(to, "templates", "generated")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for file, texts := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.Join(texts, "---\n")), 0o644); err != nil {
			return err
		}
	}
	return setVersion(filepath.Join(to, "Chart.yaml"), version)
}

// setVersion fills in what the Chart.yaml of the sources leaves out.
func setVersion(file, version string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var chart map[string]any
	if err := yaml.Unmarshal(text, &chart); err != nil {
		return err
	}
	tag := version
	if version == "v0.0.0-dev" {
		tag = "dev" // what make images writes by default
	}
	chart["version"], chart["appVersion"] = strings.TrimPrefix(version, "v"), tag
	if text, err = yaml.Marshal(chart); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// setRegistry puts another registry where the sources name theirs.
func (s source) setRegistry(dir, registry string) error {
	if s.registry.file == "" || registry == defaultRegistry {
		return nil
	}
	file, was := filepath.Join(dir, s.registry.file), s.registry.text
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.Count(string(text), was) != 1 {
		return fmt.Errorf("%q is not once in %s: change the list of charts", was, s.registry.file)
	}
	now := strings.Replace(was, defaultRegistry, registry, 1)
	return os.WriteFile(file, []byte(strings.Replace(string(text), was, now, 1)), 0o644)
}

// pack is the archive of a chart, the same bytes for the same files.
func pack(dir, name string) ([]byte, error) {
	content := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	// Helm wants the chart's description before all else.
	first := filepath.Join(name, "Chart.yaml")
	files := slices.SortedFunc(maps.Keys(content), func(a, b string) int {
		if (a == first) != (b == first) {
			return map[bool]int{true: -1, false: 1}[a == first]
		}
		return cmp.Compare(a, b)
	})
	for _, file := range files {
		if err := archive.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content[file]))}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(content[file]); err != nil {
			return nil, err
		}
	}
	err = errors.Join(archive.Close(), zipped.Close())
	return out.Bytes(), err
}
