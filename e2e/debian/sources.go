package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Source is one suite of an archive, as a line of sources.list(5) names it.
type Source struct {
	URI        string
	Suite      string
	Components []string
	SignedBy   string // key ring; empty trusts apt's own
}

// debianKeyring is where the debian-archive-keyring package puts its keys.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// SourcesList is the content of a sources.list(5) with the given entries.
func SourcesList(sources []Source) string {
	var b strings.Builder
	for _, s := range sources {
		options := ""
		if s.SignedBy != "" {
			options = " [signed-by=" + s.SignedBy + "]"
		}
		fmt.Fprintf(&b, "deb%s %s %s %s\n", options, s.URI, s.Suite, strings.Join(s.Components, " "))
	}
	return b.String()
}

// parseTargets reads lines "URI|suite|component|keyring" of apt-get indextargets
// and keeps the suites of the release, in order: other software's archives are
// none of our business.
func parseTargets(text, codename string) ([]Source, error) {
	var sources []Source
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 {
			return nil, fmt.Errorf("apt-get indextargets printed %q, want four fields", line)
		}
		uri, suite, component, keyring := f[0], f[1], f[2], f[3]
		if suite != codename && !strings.HasPrefix(suite, codename+"-") {
			continue
		}
		if strings.HasPrefix(keyring, "$") { // apt leaves unset fields as they are
			keyring = ""
			if _, err := os.Stat(debianKeyring); err == nil {
				keyring = debianKeyring
			}
		}
		i := slices.IndexFunc(sources, func(s Source) bool { return s.URI == uri && s.Suite == suite })
		if i < 0 {
			sources = append(sources, Source{URI: uri, Suite: suite, SignedBy: keyring})
			i = len(sources) - 1
		}
		if !slices.Contains(sources[i].Components, component) {
			sources[i].Components = append(sources[i].Components, component)
		}
	}
	if !slices.ContainsFunc(sources, func(s Source) bool { return s.Suite == codename }) {
		return nil, fmt.Errorf("/etc/apt has no source for Debian %s; add one (man sources.list)", codename)
	}
	return sources, nil
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
