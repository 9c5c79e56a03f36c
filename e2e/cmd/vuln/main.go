// SPDX-License-Identifier: Apache-2.0

// The vuln command runs govulncheck over modules. A vulnerability that the code reaches in a
// dependency fails it: a newer version in go.mod mends that. One in Go itself is reported
// only, since the toolchain is the machine's. Where the database cannot be reached, it says
// that nothing was checked.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"
)

// patience is how long the database may take to answer.
const patience = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("vuln", flag.ContinueOnError)
	program := flags.String("govulncheck", "govulncheck", "path of govulncheck")
	database := flags.String("db", "https://vuln.go.dev", "address of the vulnerability database")
	if err := flags.Parse(args); err != nil {
		return err
	}
	path, err := filepath.Abs(*program)
	if err != nil {
		return err
	}
	if err := reach(ctx, *database); err != nil {
		fmt.Fprintf(out, "== NOT CHECKED for known vulnerabilities: the database cannot be reached: %v\n", err)
		return nil
	}
	var errs []error
	for _, dir := range flags.Args() {
		found, err := check(ctx, path, *database, dir)
		if err != nil {
			return err
		}
		for _, f := range found {
			fmt.Fprintf(out, "%s: %s in %s, mended in %s\n", dir, f.OSV, f.Trace[0].Module, f.FixedVersion)
			if f.Trace[0].Module != "stdlib" {
				errs = append(errs, fmt.Errorf("%s reaches %s in %s %s; the version that mends it is %q", dir, f.OSV, f.Trace[0].Module, f.Trace[0].Version, f.FixedVersion))
			}
		}
	}
	return errors.Join(errs...)
}

func reach(ctx context.Context, database string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, database+"/index/db.json", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(response.Body).Decode(&struct{}{})
}

// finding is a vulnerability as govulncheck -format json reports it. The first frame of the
// trace names a function if the code reaches it.
type finding struct {
	OSV          string `json:"osv"`
	FixedVersion string `json:"fixed_version"`
	Trace        []struct{ Module, Version, Function string }
}

func check(ctx context.Context, program, database, dir string) ([]finding, error) {
	cmd := exec.CommandContext(ctx, program, "-db", database, "-format", "json", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("govulncheck in %s: %w\n%s", dir, err, stderr.Bytes())
	}
	return reached(bytes.NewReader(out))
}

// reached are the findings that the code reaches, each vulnerability of a module once.
func reached(output io.Reader) ([]finding, error) {
	var found []finding
	seen := map[[2]string]bool{}
	for messages := json.NewDecoder(output); ; {
		var message struct {
			Finding *finding `json:"finding"`
		}
		if err := messages.Decode(&message); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("output of govulncheck: %w", err)
		}
		f := message.Finding
		if f == nil || len(f.Trace) == 0 || f.Trace[0].Function == "" {
			continue
		}
		if key := [2]string{f.OSV, f.Trace[0].Module}; !seen[key] {
			seen[key] = true
			found = append(found, *f)
		}
	}
}
