// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The formats of https://slsa.dev/spec/v1.1/provenance and
// https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	// buildType: the images of "make images", by the Go toolchain, from one commit.
	buildType = "https://github.com/sriovkit/sriovkit/blob/main/e2e/docs/images.md"
	// builderID: whoever runs the target. A signature, not this field, says who that was.
	builderID = "https://github.com/sriovkit/sriovkit/blob/main/Makefile#images"
)

type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     predicate  `json:"predicate"`
}

type resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]any    `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters"`
	ResolvedDependencies []resource        `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder struct {
		ID string `json:"id"`
	} `json:"builder"`
}

// provenance says from which commit, with which toolchain and settings an image was built. It
// has no times: the same image has the same provenance.
func provenance(img staged, builds []*debug.BuildInfo) statement {
	s := statement{Type: statementType, PredicateType: predicateType}
	s.Subject = append(s.Subject, resource{Name: img.component(), Digest: digestSet(img.Root.Digest)})
	platforms := []string{}
	for _, p := range img.Platforms {
		if p.Digest != img.Root.Digest {
			s.Subject = append(s.Subject, resource{Name: img.component(), Digest: digestSet(p.Digest)})
		}
		if p.Platform != nil {
			platforms = append(platforms, p.Platform.OS+"/"+p.Platform.Architecture)
		}
	}
	b := &s.Predicate.BuildDefinition
	b.BuildType = buildType
	b.ExternalParameters = map[string]any{"component": img.component(), "version": img.tag(), "platforms": platforms}
	b.InternalParameters = map[string]string{}
	for _, build := range builds {
		b.InternalParameters["go"] = build.GoVersion
		for _, setting := range build.Settings {
			switch setting.Key {
			case "-trimpath", "-buildmode", "CGO_ENABLED":
				b.InternalParameters[setting.Key] = setting.Value
			}
		}
	}
	source := resource{URI: "git+" + img.Labels[ocispec.AnnotationSource]}
	if revision := img.Labels[ocispec.AnnotationRevision]; revision != "" {
		source.Digest = map[string]string{"gitCommit": revision}
	}
	b.ResolvedDependencies = []resource{source}
	s.Predicate.RunDetails.Builder.ID = builderID
	return s
}

func digestSet(d digest.Digest) map[string]string {
	return map[string]string{string(d.Algorithm()): d.Encoded()}
}
