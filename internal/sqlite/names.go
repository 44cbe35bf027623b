package sqlite

import (
	"fmt"
	"slices"
	"sync"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// name is what a run's function number stands for.
type name struct {
	functionID core.FunctionID
	appID      core.AppID
	app        string
	function   string
}

// names holds the table function_names in memory: lists resolve the number in
// each row by it, and saving finds the number of a function. Only the writer
// changes it; what a transaction added is taken out again if it rolls back.
type names struct {
	mu     sync.RWMutex
	all    []name // the number is the index plus one
	number map[core.FunctionID]int64
	byApp  map[string]map[string][]int64
	kept   int // how many are committed
}

func newNames() *names {
	return &names{number: map[core.FunctionID]int64{}, byApp: map[string]map[string][]int64{}}
}

// get gives the name of a number; an unknown number has an empty one.
func (n *names) get(number int64) name {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if number < 1 || number > int64(len(n.all)) {
		return name{}
	}
	return n.all[number-1]
}

// find gives the numbers of the functions of an app; function "" means all.
// It gives up at more than limit.
func (n *names) find(app, function string, limit int) (numbers []int64, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	functions := n.byApp[app]
	if function != "" {
		numbers = functions[function]
		return slices.Clone(numbers), len(numbers) <= limit
	}
	if len(functions) > limit {
		return nil, false
	}
	for _, some := range functions {
		numbers = append(numbers, some...)
	}
	return numbers, len(numbers) <= limit
}

func (n *names) add(v name) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, v)
	number := int64(len(n.all))
	n.number[v.functionID] = number
	functions := n.byApp[v.app]
	if functions == nil {
		functions = map[string][]int64{}
		n.byApp[v.app] = functions
	}
	functions[v.function] = append(functions[v.function], number)
	return number
}

func (n *names) keep() { n.kept = len(n.all) }

func (n *names) undo() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := len(n.all) - 1; i >= n.kept; i-- {
		v := n.all[i]
		delete(n.number, v.functionID)
		numbers := n.byApp[v.app][v.function]
		n.byApp[v.app][v.function] = numbers[:len(numbers)-1]
	}
	n.all = n.all[:n.kept]
}

// nameNumber gives the number of a run's function, a new one when it is the
// first run of the function.
func (s *Store) nameNumber(tx *sqlitefile.Tx, r *core.Run) (int64, error) {
	if number, ok := s.names.number[r.FunctionID]; ok {
		return number, nil
	}
	number := int64(len(s.names.all) + 1)
	_, err := tx.Exec("INSERT INTO function_names (number, function_id, app_id, app, function) VALUES (?, ?, ?, ?, ?)",
		number, int64(r.FunctionID), int64(r.AppID), r.App, r.Function)
	if err != nil {
		return 0, fmt.Errorf("noting the name of function %s: %w", r.FunctionID, err)
	}
	return s.names.add(name{r.FunctionID, r.AppID, r.App, r.Function}), nil
}

// words holds the table words in memory, as names does function_names.
type words struct {
	mu     sync.RWMutex
	all    []string // the number is the index plus one
	number map[string]int64
	kept   int
}

// The bounds of the table words; what is over them stands in the rows
// themselves.
const (
	maxWords = 4096
	maxWord  = 64
)

func newWords() *words { return &words{number: map[string]int64{}} }

// get gives the word of a number, "" for 0.
func (w *words) get(number int64) string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if number < 1 || number > int64(len(w.all)) {
		return ""
	}
	return w.all[number-1]
}

func (w *words) add(word string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, word)
	w.number[word] = int64(len(w.all))
	return int64(len(w.all))
}

func (w *words) keep() { w.kept = len(w.all) }

func (w *words) undo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, word := range w.all[w.kept:] {
		delete(w.number, word)
	}
	w.all = w.all[:w.kept]
}

// wordNumber gives the number of a word, a new one where there is room for
// it, and 0 for none.
func (s *Store) wordNumber(tx *sqlitefile.Tx, word string) (int64, error) {
	if word == "" {
		return 0, nil
	}
	if number, ok := s.words.number[word]; ok {
		return number, nil
	}
	if len(word) > maxWord || len(s.words.all) >= maxWords {
		return 0, nil
	}
	number := int64(len(s.words.all) + 1)
	if _, err := tx.Exec("INSERT INTO words (number, word) VALUES (?, ?)", number, word); err != nil {
		return 0, fmt.Errorf("noting the word %q: %w", word, err)
	}
	return s.words.add(word), nil
}

// loadNames reads both tables. Numbers have no gaps: they are given in order
// and never taken back.
func (s *Store) loadNames(tx *sqlitefile.Tx) error {
	rows, err := tx.Query("SELECT function_id, app_id, app, function FROM function_names ORDER BY number")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var v name
		if err := rows.Scan(&v.functionID, &v.appID, &v.app, &v.function); err != nil {
			return err
		}
		s.names.add(v)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	texts, err := tx.Query("SELECT word FROM words ORDER BY number")
	if err != nil {
		return err
	}
	defer texts.Close()
	for texts.Next() {
		var word string
		if err := texts.Scan(&word); err != nil {
			return err
		}
		s.words.add(word)
	}
	return texts.Err()
}
