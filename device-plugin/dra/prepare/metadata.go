// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sriovkit/sriovkit/device-plugin/allocation"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/api/metadata"
	"k8s.io/dynamic-resource-allocation/api/metadata/v1beta1"
	"tags.cncf.io/container-device-interface/specs-go"
)

// restoreMetadata makes again what is missing of the metadata files and of the CDI
// specifications by which the helper library mounts them: those live on disk, these in a
// directory that a reboot empties. Names and contents are the library's
// (kubeletplugin/metadata.go).
func (p *Preparer) restoreMetadata(c record.Claim) error {
	for _, r := range c.Requests {
		file := filepath.Join(p.metadataDir(c), r.Base(), "metadata.json")
		if err := p.restoreMetadataFile(c, r, file); err != nil {
			return fmt.Errorf("metadata of request %s: %w", r.Name, err)
		}
		path := p.metadataSpec(c, r)
		if exists(path) {
			continue
		}
		inside := metadata.ResourceClaimFilePath(p.Driver, c.Name, r.Base())
		if c.PodClaim != "" {
			inside = metadata.ResourceClaimTemplateFilePath(p.Driver, c.PodClaim, r.Base())
		}
		spec := specs.Spec{Version: cdiVersion, Kind: p.Driver + "/metadata", Devices: []specs.Device{{
			Name: p.cdiName(c, r),
			ContainerEdits: specs.ContainerEdits{Mounts: []*specs.Mount{{
				HostPath: file, ContainerPath: inside, Options: []string{"ro", "bind"},
			}}},
		}}}
		if err := p.write(path, spec); err != nil {
			return err
		}
	}
	return nil
}

// restoreMetadataFile writes a request's metadata unless it is whole. What is known of its
// networks the driver adds when it hears of them.
func (p *Preparer) restoreMetadataFile(c record.Claim, r record.Request, path string) error {
	var now v1beta1.DeviceMetadata
	text, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(text, &now) == nil && now.UID == c.UID {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out := v1beta1.DeviceMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "DeviceMetadata"},
		ObjectMeta: metav1.ObjectMeta{Name: c.Name, Namespace: c.Namespace, UID: c.UID, Generation: 1},
	}
	if c.PodClaim != "" {
		out.PodClaimName = &c.PodClaim
	}
	request := v1beta1.DeviceMetadataRequest{Name: r.Name}
	for _, d := range r.Devices {
		attributes := map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{}
		for name, value := range p.metadata(d) {
			attributes[resourceapi.QualifiedName(name)] = value
		}
		request.Devices = append(request.Devices, v1beta1.Device{Driver: p.Driver, Pool: p.Node, Name: d.Name, Attributes: attributes})
	}
	out.Requests = []v1beta1.DeviceMetadataRequest{request}
	if text, err = json.MarshalIndent(out, "", "  "); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return allocation.WriteFile(path, append(text, '\n'), 0o644)
}

// RemoveMetadata removes what the helper library keeps of a claim that kubelet will not have
// it end.
func (p *Preparer) RemoveMetadata(c record.Claim) error {
	for _, r := range c.Requests {
		if err := os.Remove(p.metadataSpec(c, r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return p.removeMetadataDir(p.metadataDir(c), c.UID)
}

// RemoveAll removes the directory with the metadata of a claim that has ended, for the helper
// library.
func (p *Preparer) RemoveAll(dir string) error { return p.removeMetadataDir(dir, "") }

// removeMetadataDir removes the directory with a claim's metadata, which has the claim's name:
// while another has that name by now, it stays.
func (p *Preparer) removeMetadataDir(dir string, of types.UID) error {
	claims, err := p.Store.All() // those that can be read, also with an error
	if err != nil || slices.ContainsFunc(claims, func(c record.Claim) bool { return c.UID != of && p.metadataDir(c) == dir }) {
		return nil
	}
	return os.RemoveAll(dir)
}

func (p *Preparer) metadataSpec(c record.Claim, r record.Request) string {
	return filepath.Join(p.CDIDir, fmt.Sprintf("%s_metadata_%s_%s.json", p.Driver, c.UID, r.Base()))
}

func (p *Preparer) metadataDir(c record.Claim) string {
	return filepath.Join(p.MetadataDir, "dra-device-metadata", c.Namespace+"_"+c.Name)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
