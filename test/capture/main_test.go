package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestDraw(t *testing.T) {
	t.Parallel()
	text := "\n# a remark\n$ typed <it> & more\n\n" + strings.Repeat("é", columns+1) + "\n\n"
	var one, two bytes.Buffer
	if err := errors.Join(draw(strings.NewReader(text), &one), draw(strings.NewReader(text), &two)); err != nil {
		t.Fatal(err)
	}
	if one.String() != two.String() {
		t.Error("the same text gave two pictures")
	}
	for d := xml.NewDecoder(bytes.NewReader(one.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
	}
	for want, n := range map[string]int{
		`class="remark" xml:space="preserve"># a remark<`: 1,
		`typed &lt;it&gt; &amp; more<`:                    1,
		">" + strings.Repeat("é", columns) + "<":          1,
		">é<":    1,
		"<text ": 4,
		`height="` + "143" + `" viewBox="0 0 909 143"`: 1,
	} {
		if got := strings.Count(one.String(), want); got != n {
			t.Errorf("%s is there %d times, want %d:\n%s", want, got, n, &one)
		}
	}
}
