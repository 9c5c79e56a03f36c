// SPDX-License-Identifier: Apache-2.0

package nad

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	single, err := Parse([]byte(`{"zz":12345678901234567890,"type":"macvlan","cniVersion":"0.3.1","capabilities":{"ips":true,"mac":false}}`), "neta")
	require.NoError(t, err)
	assert.Equal(t, "neta", single.Name, "a missing name is the NAD's")
	assert.Equal(t, "0.3.1", single.CNIVersion)
	assert.True(t, single.Declares("ips"))
	assert.False(t, single.Declares("mac"), "declared false")
	assert.Equal(t, `{"zz":12345678901234567890,"type":"macvlan","cniVersion":"0.3.1","capabilities":{"ips":true,"mac":false}}`,
		string(single.Plugins[0].JSON.Bytes()), "the bytes are kept")

	list, err := Parse([]byte(`{"name":"l","cniVersion":"0.4.0","cniVersions":["1.0.0","99.0.0"],"disableCheck":"TRUE","disableGC":true,
		"plugins":[{"type":"a"},{"type":"b","capabilities":{"mac":true}}]}`), "neta")
	require.NoError(t, err)
	assert.Equal(t, "l", list.Name)
	assert.Equal(t, "1.0.0", list.CNIVersion, "the newest we know")
	assert.True(t, list.DisableCheck && list.DisableGC)
	assert.Len(t, list.Plugins, 2)
	assert.True(t, list.Declares("mac"))
}

// What a configuration is, its members say together: generators write empty ones.
func TestSingleOrList(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"cniVersion":"1.0.0","type":"","plugins":[{"type":"a"},{"type":"b"}]}`:          "1.0.0 [a b]",
		`{"cniVersion":"1.0.0","type":null,"plugins":[{"type":"a"}]}`:                     "1.0.0 [a]",
		`{"cniVersion":"1.0.0","Type":"","Plugins":[{"type":"a"}]}`:                       "1.0.0 [a]",
		`{"cniVersion":"1.0.0","type":"a","plugins":[{"type":"b"}]}`:                      "1.0.0 [a]",
		`{"cniVersion":"1.0.0","type":"a","plugins":[]}`:                                  "1.0.0 [a]",
		`{"cniVersion":"0.4.0","cniVersions":["0.4.0","1.1.0"],"type":"a"}`:               "0.4.0 [a]", // a member of lists
		`{"cniVersion":"0.4.0","cniVersions":["0.4.0","1.1.0"],"plugins":[{"type":"a"}]}`: "1.1.0 [a]",
	} {
		c, err := Parse([]byte(config), "neta")
		require.NoError(t, err, config)
		var types []string
		for _, p := range c.Plugins {
			types = append(types, p.Type)
		}
		assert.Equal(t, want, fmt.Sprint(c.CNIVersion, " ", types), config)
	}
}

// The files of a directory are configurations or something else; none keeps anybody waiting.
func TestFilesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "00-pipe.conf"), 0o600))
	require.NoError(t, os.Symlink("01-loop.conf", filepath.Join(dir, "01-loop.conf")))
	require.NoError(t, os.Symlink("/nonexistent", filepath.Join(dir, "02-nowhere.conf")))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "03-endless.conf")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "04-large.conf"), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, "04-large.conf"), 1<<40))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "10-net.conf"), []byte(`{"name":"net","type":"a"}`), 0o600))
	c, err := FromPath(dir)
	require.NoError(t, err)
	assert.Equal(t, "net", c.Name)
	c, err = FromDir(dir, "net")
	require.NoError(t, err)
	assert.Equal(t, "net", c.Name)
	for _, name := range []string{"00-pipe.conf", "01-loop.conf", "02-nowhere.conf", "03-endless.conf", "04-large.conf"} {
		_, err := FromPath(filepath.Join(dir, name))
		require.ErrorContains(t, err, name)
	}
}

// Keys as Go's decoder reads them: with escapes, and with letters that fold to others.
func TestOddSpellings(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"type":"a","\u0070revResult":{},"prevReſult":{},"cni.dev/valid-attachmentſ":[]}`: `{"type":"a"}`,
		`{"type":"a","RUNTIMECONFIG":{"mac":"x"},"x":1}`:                                   `{"type":"a","x":1}`,
		`{"type":"a","deviceID":"x","device\u0049D":"y"}`:                                  `{"type":"a","deviceID":"y"}`,
		`{"type":"a","pciBuſID":"x"}`:                                                      `{"type":"a","pciBusID":"x"}`,
		`{"type":"a","runtimeConfig ":{},"prevResult\u0000":{}}`:                           `{"type":"a","runtimeConfig ":{},"prevResult\u0000":{}}`, // nobody's
	} {
		c, err := Parse([]byte(config), "neta")
		require.NoError(t, err, config)
		assert.Equal(t, want, string(c.Plugins[0].JSON.Bytes()), config)
	}
	for config, want := range map[string]string{
		`{"TYPE":"multus"}`:                                      "lead back",
		`{"typ\u0065":"multus-shim"}`:                            "lead back",
		`{"type":"a","typ\u0065":"b","Type":"c"}`:                "two spellings",
		`{"plugins":[{"type":"a"}],"pluginſ":[]}`:                "two spellings",
		`{"plugins":[{"type":"a","deviceID":"x","DeviceId":1}]}`: "two spellings",
	} {
		_, err := Parse([]byte(config), "neta")
		require.ErrorContains(t, err, want, config)
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		``:                               "unexpected end",
		`null`:                           "not a JSON object",
		`[]`:                             "not a JSON object",
		`{}`:                             `neither "type"`,
		`{"type":7}`:                     `"type"`,
		`{"type":""}`:                    `"type" is missing`,
		`{"type":"../sh"}`:               "want a file name",
		`{"type":"multus"}`:              "lead back to multus",
		`{"type":"a","name":"x y"}`:      `name "x y"`,
		`{"type":"a","name":{}}`:         `"name"`,
		`{"type":"a","cniVersion":1}`:    `"cniVersion"`,
		`{"type":"a","cniVersion":"x"}`:  `cniVersion "x"`,
		`{"type":"a","capabilities":[]}`: `"capabilities"`,
		`{"type":"a","capabilities":{"ips":"yes"}}`: `"capabilities"`,
		`{"plugins":[]}`:                                                 "the list is empty",
		`{"plugins":{}}`:                                                 "plugins: ",
		`{"plugins":[null]}`:                                             "plugins, element 1: not a JSON object",
		`{"plugins":[{"type":"a"},{}]}`:                                  `plugins, element 2: "type" is missing`,
		`{"disableGC":"maybe"}`:                                          "want true or false",
		`{"loadOnlyInlinedPlugins":true}`:                                `neither "type"`,
		`{"type":"a","Type":"b"}`:                                        `"type" and "Type" are two spellings`,
		`{"type":"a","name":"x","NAME":"y"}`:                             "two spellings",
		`{"type":"a","deviceID":"x","DEVICEID":"y"}`:                     "two spellings",
		`{"type":"a","pciBusID":"x","pcibusid":"y"}`:                     "two spellings",
		`{"type":"a","cniVersion":"1.0.0","CNIVersion":"0.1.0"}`:         "two spellings",
		`{"plugins":[{"type":"a"}],"pluginſ":[{"type":"b"}]}`:            "two spellings",
		`{"plugins":[{"type":"a","capabilities":{},"Capabilities":{}}]}`: "two spellings",
		strings.Repeat(`{"a":`, 1<<12):                                   "nested deeper than 32",
		`{"type":"a","x":` + strings.Repeat(`[`, 1<<18):                  "nested deeper than 32",
	} {
		c, err := Parse([]byte(config), "neta")
		assert.ErrorContains(t, err, want, config)
		assert.Zero(t, c, config)
	}
}

// One spelling of a key that we read or set is served, whichever it is, and handed
// on in the usual one; what belongs to the runtime is left out.
func TestSpellings(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(`{"CNIVersion":"0.3.1","Name":"own","Type":"a","Capabilities":{"ips":true},"DeviceID":"d","PrevResult":{"ips":[]},
		"prevResult":{},"RUNTIMECONFIG":{"mac":"x"},"runtimeConfig":{},"cni.dev/valid-attachments":[],"CNI.dev/Attachments":[],"Master":"eth1"}`), "neta")
	require.NoError(t, err)
	assert.Equal(t, "own 0.3.1 a", c.Name+" "+c.CNIVersion+" "+c.Plugins[0].Type)
	assert.True(t, c.Declares("ips"))
	assert.Equal(t, `{"cniVersion":"0.3.1","name":"own","type":"a","capabilities":{"ips":true},"deviceID":"d","Master":"eth1"}`,
		string(c.Plugins[0].JSON.Bytes()))

	c, err = Parse([]byte(`{"Plugins":[{"Type":"a","prevresult":{},"RuntimeConfig":{},"Args":{"cni":{}}}],"DisableGC":true}`), "neta")
	require.NoError(t, err)
	assert.True(t, c.DisableGC)
	assert.Equal(t, `{"type":"a","args":{"cni":{}}}`, string(c.Plugins[0].JSON.Bytes()))

	c, err = ParseRecorded([]byte(`{"type":"a","Type":"b","x":`+strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100)+`}`), "neta")
	require.NoError(t, err, "what ran once has to be detached")
	assert.Equal(t, []string{"b"}, types(c), "as its plugin was found")
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	write("00-broken.conflist", `{"plugins":[`)
	write("01-multus.conf", `{"name":"m","type":"multus"}`)
	write("10-neta.conf", `{"name":"neta","type":"from-conf"}`)
	write("20-neta.conflist", `{"name":"neta","plugins":[{"type":"from-list"}]}`)
	write("neta/50-tune.conf", `{"type":"tuning"}`)
	write("30-netb.json", `{"name":"netb","type":"b"}`)

	neta, err := FromDir(dir, "neta")
	require.NoError(t, err)
	assert.Equal(t, []string{"from-list", "tuning"}, types(neta), "a conflist wins; its directory's plugins follow")
	netb, err := FromDir(dir, "netb")
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, types(netb))
	_, err = FromDir(dir, "none")
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorContains(t, err, "00-broken.conflist", "what was passed over is named")
	_, err = FromDir(filepath.Join(dir, "absent"), "none")
	require.ErrorIs(t, err, ErrNotFound)

	first, err := FromPath(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{"from-conf"}, types(first), "neither the broken file nor multus itself")
	_, err = FromPath(filepath.Join(dir, "01-multus.conf"))
	require.ErrorContains(t, err, "lead back")

	chain, ok, err := Chain(dir, "neta", "1.0.0")
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, []string{"tuning"}, types(chain))
	assert.True(t, chain.SeedResult)
	_, ok, err = Chain(dir, "none", "1.0.0")
	require.NoError(t, err)
	assert.False(t, ok)
}

func types(c Config) []string {
	var out []string
	for _, p := range c.Plugins {
		out = append(out, p.Type)
	}
	return out
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"type":"a"}`, `{"plugins":[{"type":"a"}]}`, `{"plugins":[null]}`, `{"type":"a","capabilities":{"ips":true}}`,
		`{"cniVersion":"1.0.0","cniVersions":["0.4.0"],"plugins":[{"type":"b"}],"disableGC":"true"}`, `{"type":"a","args":"x"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "name")
		if err != nil {
			require.Zero(t, c)
			return
		}
		require.NotEmpty(t, c.Name)
		require.NotEmpty(t, c.Plugins)
		for _, p := range c.Plugins {
			require.NotEmpty(t, p.Type)
			again, err := Parse(p.JSON.Bytes(), c.Name)
			require.NoError(t, err)
			require.Equal(t, p, again.Plugins[0])
		}
	})
}
