// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/request"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
)

// checked is what check reads: what kubectl prints of NetworkAttachmentDefinitions, one or a
// list, or a CNI configuration or configuration list as such.
type checked struct {
	Items    []checked
	Metadata struct{ Namespace, Name string }
	Spec     *struct{ Config string }

	Name    string
	Plugins []json.RawMessage
}

// errDiffers: some configuration is refused.
var errDiffers = errors.New("some configurations would be refused")

// check says of every configuration of this plugin what ADD would refuse, which the SR-IOV
// CNI plugin may have taken, which log is not written, and which keys nobody reads.
func check(paths []string, stdin io.Reader, stdout io.Writer) error {
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	c := checker{out: stdout}
	for _, path := range paths {
		text, err := readInput(path, stdin)
		if err != nil {
			return err
		}
		if err := c.document(path, text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	fmt.Fprintf(stdout, "%d configurations of type sriov, %d refused\n", c.seen, c.refused)
	if c.refused > 0 {
		return errDiffers
	}
	return nil
}

func readInput(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}

type checker struct {
	out           io.Writer
	seen, refused int
}

func (c *checker) document(where string, text []byte) error {
	var d checked
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	switch {
	case d.Items != nil:
		for _, item := range d.Items {
			if err := c.object(item); err != nil {
				return err
			}
		}
		return nil
	case d.Spec != nil:
		return c.object(d)
	}
	return c.configuration(where, text)
}

// object checks a NetworkAttachmentDefinition. One without a configuration means a file on
// the nodes.
func (c *checker) object(d checked) error {
	if d.Spec == nil || strings.TrimSpace(d.Spec.Config) == "" {
		return nil
	}
	where := d.Metadata.Namespace + "/" + d.Metadata.Name
	if err := c.configuration(where, []byte(d.Spec.Config)); err != nil {
		c.refuse(where, err)
	}
	return nil
}

func (c *checker) configuration(where string, text []byte) error {
	var d checked
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	if d.Plugins == nil {
		d.Plugins = []json.RawMessage{text}
	}
	for _, p := range d.Plugins {
		c.plugin(where, p)
	}
	return nil
}

// plugin checks one configuration as ADD would, with a device as the meta plugin would give
// it.
func (c *checker) plugin(where string, text []byte) {
	var d struct{ Type, DeviceID json.RawMessage } // in any case, as runtimes read type
	if json.Unmarshal(text, &d) != nil || string(d.Type) != `"sriov"` {
		return // another plugin's
	}
	c.seen++
	if d.DeviceID == nil {
		text = append([]byte(`{"deviceID": "0000:00:00.0", `), strings.TrimLeft(string(text), " \t\r\n{")...)
	} else {
		fmt.Fprintf(c.out, "%s: names a device of its own: ADD refuses it if a device plugin offers it or another pod has it\n", where)
	}
	r, err := request.Parse(text, "")
	if err == nil {
		err = r.NamesFiles(request.Files{}) // what a node's administrator allows is not known here
	}
	if err != nil {
		c.refuse(where, err)
	}
	if log := r.Conf.LogFile; err == nil && filepath.IsAbs(log) && !strings.HasPrefix(filepath.Clean(log), vf.DefaultLogDirectory+"/") {
		fmt.Fprintf(c.out, "%s: its log is not written: logFile %.200q is outside of %s (or of logDirectory in the node's /etc/cni/sriov.json)\n", where, log, vf.DefaultLogDirectory)
	}
	for _, key := range r.Unknown {
		fmt.Fprintf(c.out, "%s: nobody reads the key %q\n", where, key)
	}
}

func (c *checker) refuse(where string, err error) {
	c.refused++
	fmt.Fprintf(c.out, "%s: refused: %s\n", where, strings.ReplaceAll(cnierr.ToCNI(err).Error(), "\n", "; "))
}
