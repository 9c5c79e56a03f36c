// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Verdict is how a check ended.
type Verdict string

// Verdicts. Only Fail is a fault: of the NIC, its driver or the CNI plugin.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Refused Verdict = "refused" // the driver says that it has no such thing
	Skipped Verdict = "skipped" // something else is missing, which Detail names
)

// Check is one thing that was tried.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail,omitempty"`
	Errno   string  `json:"errno,omitempty"` // of a refusal: the driver's
	Seconds float64 `json:"seconds"`
}

// Report is what a run found out about a NIC.
type Report struct {
	NIC      NIC       `json:"nic"`
	Started  time.Time `json:"started"`
	Checks   []Check   `json:"checks"`
	Restored bool      `json:"restored"` // the PF is as it was before
	Verdict  Verdict   `json:"verdict"`  // fail if any check failed or the PF is not as it was
	Row      string    `json:"row"`      // for the table in HARDWARE.md
}

// NIC is the hardware and what drives it.
type NIC struct {
	Address       string `json:"address"`
	Name          string `json:"name"` // vendor and device as the PCI ID database has them, or their numbers
	Vendor        string `json:"vendor"`
	Device        string `json:"device"`
	Driver        string `json:"driver"`
	DriverVersion string `json:"driverVersion,omitempty"`
	VFDriver      string `json:"vfDriver,omitempty"`
	Firmware      string `json:"firmware,omitempty"`
	Kernel        string `json:"kernel"`
	TotalVFs      int    `json:"totalVFs"`
}

// refusal is the error of a check that the driver refused.
type refusal struct{ err error }

func (r refusal) Error() string { return r.err.Error() }

// skip is the error of a check for which something else is missing, and says what.
type skip string

func (s skip) Error() string { return string(s) }

// notice is the error of a check that passed, with a remark for the report.
type notice string

func (n notice) Error() string { return string(n) }

// add records how a check ended.
func (r *Report) add(name string, err error, took time.Duration) Check {
	c := Check{Name: name, Verdict: Pass, Seconds: took.Round(time.Millisecond).Seconds()}
	if err != nil {
		c.Verdict, c.Detail = Fail, err.Error()
	}
	var refused refusal
	var skipped skip
	var noticed notice
	switch {
	case errors.As(err, &refused):
		c.Verdict = Refused
		var errno syscall.Errno
		if errors.As(refused.err, &errno) {
			c.Errno = unix.ErrnoName(errno)
			if errno == syscall.EOPNOTSUPP { // which has another name too
				c.Errno = "EOPNOTSUPP"
			}
		}
	case errors.As(err, &skipped):
		c.Verdict = Skipped
	case errors.As(err, &noticed):
		c.Verdict = Pass
	}
	r.Checks = append(r.Checks, c)
	return c
}

// verdict is that of the check of a name; empty if there was none.
func (r *Report) verdict(name string) Verdict {
	if i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == name }); i >= 0 {
		return r.Checks[i].Verdict
	}
	return ""
}

// finish judges the whole and writes the row.
func (r *Report) finish() {
	r.Verdict = Pass
	if !r.Restored || slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Verdict == Fail }) {
		r.Verdict = Fail
	}
	r.Row = r.row()
}

// RowHead is the head of the table that rows are for.
const RowHead = `| NIC | Firmware | Driver | Kernel | VFs | Settings of VFs | Refused | VLANs apart | Spoof check | vfio | sriov-cni | Failed | On |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |`

func (r *Report) row() string {
	var taken, refused, failed []string
	for _, c := range r.Checks {
		setting, isSetting := strings.CutPrefix(c.Name, settingPrefix)
		switch {
		case c.Verdict == Fail:
			failed = append(failed, c.Name)
		case isSetting && c.Verdict == Pass:
			taken = append(taken, setting)
		case isSetting && c.Verdict == Refused:
			refused = append(refused, setting)
		}
	}
	plugin := r.verdict(pluginCycle)
	if k := r.verdict(pluginKills); plugin == Pass && k != "" {
		plugin = k
	}
	if !r.Restored {
		failed = append(failed, "PF as it was")
	}
	cell := func(s string) string {
		if s == "" {
			return "-"
		}
		return strings.ReplaceAll(s, "|", "/")
	}
	list := func(s []string) string { return cell(strings.Join(s, ", ")) }
	driver := r.NIC.Driver
	if r.NIC.VFDriver != "" && r.NIC.VFDriver != driver {
		driver += ", " + r.NIC.VFDriver
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %d | %s | %s | %s | %s | %s | %s | %s | %s |",
		cell(r.NIC.Name), cell(r.NIC.Firmware), cell(driver), cell(r.NIC.Kernel), r.NIC.TotalVFs, list(taken), list(refused),
		cell(string(r.verdict(vlansApart))), cell(string(r.verdict(spoofCheck))), cell(string(r.verdict(vfio))),
		cell(string(plugin)), list(failed), r.Started.Format(time.DateOnly))
}
