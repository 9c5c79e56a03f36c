// SPDX-License-Identifier: Apache-2.0

// Package picture draws what a terminal showed.
package picture

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Measures of a picture in pixels. A character of the usual monospaced fonts is 0.6
// of its size wide.
const (
	fontSize   = 13
	lineHeight = 18
	charWidth  = 0.6 * fontSize
	margin     = 16
)

// Draw draws text as SVG.
func Draw(out io.Writer, text string) error {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	columns := 0
	for _, l := range lines {
		columns = max(columns, utf8.RuneCountInString(l))
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" font-family="monospace" font-size="%d" fill="#d4d4d4">`+"\n",
		2*margin+float64(columns)*charWidth, 2*margin+len(lines)*lineHeight, fontSize)
	fmt.Fprintln(&svg, `<rect width="100%" height="100%" rx="8" fill="#1e1e1e"/>`)
	for i, l := range lines {
		if l == "" {
			continue
		}
		// textLength keeps the columns where the font is wider or narrower.
		fmt.Fprintf(&svg, `<text x="%d" y="%d" xml:space="preserve" textLength="%.0f">`,
			margin, margin+i*lineHeight+fontSize, float64(utf8.RuneCountInString(l))*charWidth)
		if err := xml.EscapeText(&svg, []byte(l)); err != nil {
			return err
		}
		fmt.Fprintln(&svg, "</text>")
	}
	fmt.Fprintln(&svg, "</svg>")
	_, err := io.WriteString(out, svg.String())
	return err
}
