// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// encodeSBOM is the CycloneDX list of what the image of one platform holds: its programs,
// and the Go modules and the standard library that each was linked from.
func encodeSBOM(img staged, platform ocispec.Descriptor, programs []program) ([]byte, error) {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: string(platform.Digest), Type: cdx.ComponentTypeContainer, Name: img.component(), Version: img.tag(),
		PackageURL: "pkg:oci/" + img.component() + "@" + strings.ReplaceAll(string(platform.Digest), ":", "%3A"),
		Licenses:   &cdx.Licenses{{License: &cdx.License{ID: img.Labels[ocispec.AnnotationLicenses]}}},
	}}
	libraries := map[string]cdx.Component{}
	container := cdx.Dependency{Ref: string(platform.Digest), Dependencies: &[]string{}}
	var components []cdx.Component
	var dependencies []cdx.Dependency
	for _, p := range programs {
		components = append(components, cdx.Component{
			BOMRef: p.Path, Type: cdx.ComponentTypeApplication, Name: p.Build.Path, Version: img.tag(),
			Properties: &[]cdx.Property{{Name: "sriovkit:path", Value: p.Path}},
		})
		*container.Dependencies = append(*container.Dependencies, p.Path)
		needs := []string{}
		for _, library := range librariesOf(p) {
			libraries[library.BOMRef] = library
			needs = append(needs, library.BOMRef)
		}
		slices.Sort(needs)
		dependencies = append(dependencies, cdx.Dependency{Ref: p.Path, Dependencies: &needs})
	}
	for _, library := range libraries {
		components = append(components, library)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	dependencies = append(dependencies, container)
	slices.SortFunc(dependencies, func(a, b cdx.Dependency) int { return cmp.Compare(a.Ref, b.Ref) })
	bom.Components, bom.Dependencies = &components, &dependencies

	var out bytes.Buffer
	err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return out.Bytes(), err
}

// librariesOf are the modules that a program was linked from. One from the checkout has no
// version of its own: it is known by the image's label of the revision.
func librariesOf(p program) []cdx.Component {
	version := strings.TrimPrefix(p.Build.GoVersion, "go")
	out := []cdx.Component{{
		BOMRef: "pkg:golang/std@" + version, Type: cdx.ComponentTypeLibrary, Name: "std", Version: version, PackageURL: "pkg:golang/std@" + version,
	}}
	for _, m := range p.Build.Deps {
		if m.Replace != nil && m.Replace.Version != "" {
			m = m.Replace
		}
		purl := "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
		library := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl}
		if m.Sum != "" {
			library.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		out = append(out, library)
	}
	return out
}
