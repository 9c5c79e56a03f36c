// SPDX-License-Identifier: Apache-2.0

package picture_test

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/picture"
)

// TestPicture reads a picture back: every line is there, as it was written.
func TestPicture(t *testing.T) {
	t.Parallel()
	lines := []string{"$ make demo", "[ 1/12] <a> & \"b\"", "        indented   wide", "", "red-1 -> red-2"}
	var out strings.Builder
	require.NoError(t, picture.Draw(&out, strings.Join(lines, "\n")+"\n"))
	var svg struct {
		Width  int `xml:"width,attr"`
		Height int `xml:"height,attr"`
		Texts  []struct {
			Y    int    `xml:"y,attr"`
			Text string `xml:",chardata"`
		} `xml:"text"`
	}
	require.NoError(t, xml.Unmarshal([]byte(out.String()), &svg))
	var got []string
	below := 0
	for _, text := range svg.Texts {
		assert.Greater(t, text.Y, below)
		assert.Less(t, text.Y, svg.Height)
		below = text.Y
		got = append(got, text.Text)
	}
	assert.Equal(t, append(lines[:3:3], lines[4]), got, "all but the empty one")
}
