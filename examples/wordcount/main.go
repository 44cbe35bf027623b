// Wordcount is a function with the contract job: a fresh process per run that
// reads the body from its standard input and prints the result on its
// standard output. It counts lines, words and bytes, and which word is there
// most often.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Result is what the function answers.
type Result struct {
	Lines int    `json:"lines"`
	Words int    `json:"words"`
	Bytes int    `json:"bytes"`
	Most  string `json:"most,omitempty"`
}

func main() {
	result, err := count(os.Stdin)
	if err != nil {
		// What is printed to standard error is the log, and an exit code
		// other than 0 makes the run fail.
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
	// A line of this form tells how far the run is, in percent.
	fmt.Fprintf(os.Stderr, "::progress 100 counted %d words\n", result.Words)
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

func count(r io.Reader) (Result, error) {
	var result Result
	seen := map[string]int{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		result.Bytes += len(line)
		if strings.HasSuffix(line, "\n") {
			result.Lines++
		}
		for _, word := range strings.Fields(line) {
			result.Words++
			word = strings.ToLower(strings.Trim(word, ".,;:!?\"'()"))
			seen[word]++
			if n, most := seen[word], seen[result.Most]; word != "" && (n > most || n == most && word < result.Most) {
				result.Most = word
			}
		}
		if errors.Is(err, io.EOF) {
			return result, nil
		}
		if err != nil {
			return Result{}, fmt.Errorf("read the body: %w", err)
		}
	}
}
