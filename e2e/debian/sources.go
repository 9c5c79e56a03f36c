// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Source is one suite of an archive, as a line of sources.list(5) names it.
type Source struct{ URI, Suite string }

// debianKeyring is where the debian-archive-keyring package puts its keys. A
// machine without it has them where apt trusts them for everything.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// SourcesList is the content of a sources.list(5) with the given entries.
func SourcesList(sources []Source) string {
	options := ""
	if _, err := os.Stat(debianKeyring); err == nil {
		options = "[signed-by=" + debianKeyring + "] "
	}
	var b strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&b, "deb %s%s %s main\n", options, s.URI, s.Suite)
	}
	return b.String()
}

// indexFile is a line of apt-get update --print-uris: all of apt's own knowledge
// of sources in either format, needing neither package lists nor the network.
var indexFile = regexp.MustCompile(`^'([^']+)/dists/([^'/]+)/main/binary-amd64/Packages[^']*' `)

// parseIndexFiles returns the suites of the release that the machine uses, the release itself
// first. Archives of other software are left out; some of them have a suite of the release's
// name as well, but none has updates.
func parseIndexFiles(text, codename string) ([]Source, error) {
	var all []Source
	for line := range strings.Lines(text) {
		if m := indexFile.FindStringSubmatch(line); m != nil {
			all = append(all, Source{URI: m[1], Suite: m[2]})
		}
	}
	var sources []Source
	for _, suite := range []string{codename, codename + "-updates", codename + "-security", codename + "-backports"} {
		of := slices.DeleteFunc(slices.Clone(all), func(s Source) bool { return s.Suite != suite })
		if suite == codename {
			slices.SortStableFunc(of, func(a, b Source) int {
				return updates(all, b) - updates(all, a)
			})
		}
		if len(of) > 0 {
			sources = append(sources, of[0])
		}
	}
	if len(sources) == 0 || sources[0].Suite != codename {
		return nil, fmt.Errorf("/etc/apt has no source for component main of Debian %s; add one (man sources.list)", codename)
	}
	return sources, nil
}

// updates returns 1 if the archive that serves s has updates of it as well, else 0, to
// sort by.
func updates(all []Source, s Source) int {
	if slices.Contains(all, Source{URI: s.URI, Suite: s.Suite + "-updates"}) {
		return 1
	}
	return 0
}

// debianCodename returns VERSION_CODENAME of an os-release(5) file of Debian.
func debianCodename(osRelease string) (string, error) {
	fields := map[string]string{}
	for line := range strings.Lines(osRelease) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			fields[k] = strings.Trim(v, `"'`)
		}
	}
	if fields["ID"] != "debian" {
		return "", fmt.Errorf("this is %q, and the emulated node is made from Debian packages; use a Debian machine or container", fields["ID"])
	}
	if fields["VERSION_CODENAME"] == "" {
		return "", errors.New("/etc/os-release names no VERSION_CODENAME; use a released Debian, not testing or unstable")
	}
	return fields["VERSION_CODENAME"], nil
}

// output runs a program and returns what it prints; an error carries stderr.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
