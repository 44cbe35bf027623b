// Command capture draws the text on its standard input as a terminal, in SVG
// on its standard output. The same text gives the same picture.
//
// Lines that begin with "# " are told as remarks and lines that begin with
// "$ " as what was typed. Lines over 104 columns are wrapped.
package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// The layout, in pixels but for columns.
const (
	columns    = 104
	charWidth  = 84 // tenths, of the common monospaced fonts at fontSize
	fontSize   = 14
	lineHeight = 19
	margin     = 18
	barHeight  = 30
)

func main() {
	if err := draw(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
}

// draw reads all of r and writes the picture to w.
func draw(r io.Reader, w io.Writer) error {
	lines, err := read(r)
	if err != nil {
		return err
	}
	width := columns*charWidth/10 + 2*margin
	height := barHeight + len(lines)*lineHeight + margin
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="Dayfly in a terminal">`+"\n", width, height, width, height)
	b.WriteString(`<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d7dae0;white-space:pre}.remark{fill:#8bbf7a}.typed{fill:#fff;font-weight:600}</style>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="#1b1e26"/>`+"\n", width, height)
	for i, colour := range []string{"#ff5f57", "#febc2e", "#28c840"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="16" r="5.5" fill="%s"/>`+"\n", margin+4+i*18, colour)
	}
	for i, l := range lines {
		if l.text == "" {
			continue
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s xml:space="preserve">`, margin, barHeight+i*lineHeight+fontSize, l.class())
		if err := xml.EscapeText(&b, []byte(l.text)); err != nil {
			return fmt.Errorf("write a line: %w", err)
		}
		b.WriteString("</text>\n")
	}
	b.WriteString("</svg>\n")
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// line is a line of the picture; kind is how the line of text that it is a
// part of begins.
type line struct{ text, kind string }

func (l line) class() string {
	switch l.kind {
	case "# ":
		return ` class="remark"`
	case "$ ":
		return ` class="typed"`
	}
	return ""
}

// read gives the lines of the picture, without blank ones at either end.
func read(r io.Reader) ([]line, error) {
	var lines []line
	in := bufio.NewScanner(r)
	for in.Scan() {
		text := strings.TrimRight(strings.ReplaceAll(in.Text(), "\t", "    "), " ")
		if text == "" && len(lines) == 0 {
			continue
		}
		kind := text[:min(len(text), 2)]
		for utf8.RuneCountInString(text) > columns {
			runes := []rune(text)
			lines = append(lines, line{string(runes[:columns]), kind})
			text = string(runes[columns:])
		}
		lines = append(lines, line{text, kind})
	}
	for len(lines) > 0 && lines[len(lines)-1].text == "" {
		lines = lines[:len(lines)-1]
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the text: %w", err)
	}
	return lines, nil
}
