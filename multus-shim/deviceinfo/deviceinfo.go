// SPDX-License-Identifier: Apache-2.0

// Package deviceinfo handles the files of the Device Information specification
// (https://github.com/k8snetworkplumbingwg/device-info-spec): a device plugin
// leaves one per device under dp/, each attachment gets one of its own under
// cni/ that its plugins may write, and its content goes into network-status.
package deviceinfo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/atomicwriter"
)

// Prepare makes room for an attachment's file at path: the directory exists,
// and the file holds what the device plugin left for the device, or does not
// exist. A file of an earlier attempt is replaced.
func Prepare(dir, resource, deviceID, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	source, err := devicePluginFile(dir, resource, deviceID)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(source)
	if errors.Is(err, fs.ErrNotExist) || source == "" {
		return Remove(path)
	}
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(path, data, 0o644)
}

// devicePluginFile is <resource>-<deviceID>-device.json, slashes as dashes.
func devicePluginFile(dir, resource, deviceID string) (string, error) {
	if resource == "" || deviceID == "" {
		return "", nil
	}
	name := strings.ReplaceAll(resource+"-"+deviceID+"-device.json", "/", "-")
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("device %q of %q: no file name", deviceID, resource)
	}
	return filepath.Join(dir, "dp", name), nil
}

// Read returns the content of an attachment's file; nil when there is none.
func Read(path string) (json.RawMessage, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var info struct{ Type, Version string }
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, fmt.Errorf("device info %s: %w", path, err)
	}
	if info.Type == "" || info.Version == "" {
		return nil, fmt.Errorf("device info %s: type %q and version %q must both be set", path, info.Type, info.Version)
	}
	return data, nil
}

// Remove removes an attachment's file. That there is none, or that no file can have the
// name, is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENAMETOOLONG) {
		return err
	}
	return nil
}
