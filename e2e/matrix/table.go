// SPDX-License-Identifier: Apache-2.0

// Package matrix runs tests on several kernels, NICs, versions of Kubernetes and of containerd,
// and keeps the results as a table in a README.
package matrix

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Row is what came of one combination. A field that says nothing was not tried.
type Row struct {
	Kernel     string // as uname -r says it
	NIC        string // the emulated one, or the profile that it behaves by
	Kubernetes string // with the v
	Containerd string
	Node       string // tests in nodes, by suite
	Cluster    string // tests on clusters
	Date       string // 2006-01-02
}

const (
	begin = "<!-- make matrix writes from here -->\n"
	end   = "<!-- to here -->\n"
	head  = "| Kernel | NIC | Kubernetes | containerd | Tests in nodes | Tests on clusters | Date |\n| --- | --- | --- | --- | --- | --- | --- |\n"
)

func (r Row) String() string {
	var b strings.Builder
	for _, c := range []string{r.Kernel, r.NIC, r.Kubernetes, r.Containerd, r.Node, r.Cluster, r.Date} {
		if c == "" {
			c = "-"
		}
		b.WriteString("| " + strings.ReplaceAll(c, "|", "/") + " ")
	}
	return b.String() + "|\n"
}

func parseRow(line string) (Row, error) {
	cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	if len(cells) != 7 {
		return Row{}, fmt.Errorf("row %q, want 7 cells", line)
	}
	for i, c := range cells {
		if cells[i] = strings.TrimSpace(c); cells[i] == "-" {
			cells[i] = ""
		}
	}
	return Row{cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]}, nil
}

// same reports whether two rows are of one combination: patch releases of a kernel, such
// as 6.12.94 and 6.12.117, take each other's place.
func same(a, b Row) bool {
	return series(a.Kernel) == series(b.Kernel) && a.NIC == b.NIC &&
		series(a.Kubernetes) == series(b.Kubernetes) && series(a.Containerd) == series(b.Containerd)
}

// with is the row, and the suites that only a former run on the same kernel had, each with
// the date of that.
func (r Row) with(former Row) Row {
	if r.Kernel != former.Kernel {
		return r
	}
	suites := suitesOf(r.Node)
	for _, old := range suitesOf(former.Node) {
		name, _, _ := strings.Cut(old, " ")
		if slices.ContainsFunc(suites, func(s string) bool { return strings.HasPrefix(s, name+" ") }) {
			continue
		}
		if !strings.HasSuffix(old, ")") {
			old += " (" + former.Date + ")"
		}
		suites = append(suites, old)
	}
	r.Node = strings.Join(suites, between)
	return r
}

// between is what separates suites in a row.
const between = "; "

func suitesOf(node string) []string {
	if node == "" {
		return nil
	}
	return strings.Split(node, between)
}

var twoNumbers = regexp.MustCompile(`^v?\d+\.\d+`)

func series(version string) string { return twoNumbers.FindString(version) }

// Update puts rows into the table of a file, in place of those of the same combinations.
func Update(path string, rows ...Row) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := update(string(content), rows)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func update(text string, rows []Row) (string, error) {
	before, rest, ok := strings.Cut(text, begin)
	table, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("no place for the table: want the lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	var all []Row
	for line := range strings.Lines(strings.TrimPrefix(table, head)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		row, err := parseRow(line)
		if err != nil {
			return "", err
		}
		all = append(all, row)
	}
	for _, row := range rows {
		if at := slices.IndexFunc(all, func(r Row) bool { return same(r, row) }); at >= 0 {
			all[at] = row.with(all[at])
		} else {
			all = append(all, row)
		}
	}
	out := before + begin + head
	for _, r := range all {
		out += r.String()
	}
	return out + end + after, nil
}
