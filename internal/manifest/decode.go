package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/dayfly-io/dayfly/internal/core"
)

// maxProblems is how many things one error tells of.
const maxProblems = 10

// decoder fills the structs of this package from a syntax tree. It goes on
// after an error, so that all of them are told at once.
type decoder struct {
	name     string
	problems []string
	notYet   int // of the problems, those that are keys which cannot be had yet
}

// fail notes what is wrong at the token; path is the key it belongs to.
func (d *decoder) fail(at *token.Token, path, format string, args ...any) {
	if len(d.problems) >= maxProblems {
		return
	}
	var b strings.Builder
	b.WriteString(d.name)
	if at != nil && at.Position != nil {
		fmt.Fprintf(&b, ":%d:%d", at.Position.Line, at.Position.Column)
	}
	b.WriteString(": ")
	if path != "" {
		b.WriteString(path + ": ")
	}
	fmt.Fprintf(&b, format, args...)
	d.problems = append(d.problems, b.String())
}

func (d *decoder) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	text := strings.Join(d.problems, "\n")
	if d.notYet == len(d.problems) {
		return core.Errorf(core.KindNotImplemented, core.CodeNotImplemented, "%s", text)
	}
	return core.Invalid("%s", text)
}

func (d *decoder) file(text []byte) *File {
	top := d.syntax(text)
	if top == nil {
		return nil
	}
	f := &File{}
	d.structure(top, reflect.ValueOf(f).Elem(), "")
	if len(d.problems) > 0 {
		return nil
	}
	if f.App != "" {
		if err := core.ValidateName("app", f.App); err != nil {
			d.fail(valueOf(top, "app").GetToken(), "app", "%s", core.AsError(err).Message)
		}
	}
	functions := valueOf(top, "functions")
	if functions == nil || len(f.Functions) == 0 {
		d.fail(top.GetToken(), "", "there are no functions: the key functions must have at least one")
		return f
	}
	d.functions(functions, f)
	return f
}

// functions checks each function as a whole, and notes their order.
func (d *decoder) functions(node ast.Node, f *File) {
	for _, e := range entries(node) {
		name := keyText(e)
		path := "functions." + name
		if err := core.ValidateName("function", name); err != nil {
			d.fail(e.Key.GetToken(), "functions", "%s", core.AsError(err).Message)
			continue
		}
		f.order = append(f.order, name)
		fn := f.Functions[name]
		switch {
		case fn.Image != "" && fn.Build != nil:
			d.fail(valueOf(e.Value, "build").GetToken(), path, "both image and build are there: keep one of them")
			continue
		case fn.Image == "" && fn.Build == nil:
			d.fail(e.Key.GetToken(), path, "neither image nor build is there: name an image, or say how to build one")
			continue
		case fn.Build != nil:
			d.build(valueOf(e.Value, "build"), fn.Build, path+".build")
		}
		d.spec(e, fn, path)
	}
}

func (d *decoder) build(node ast.Node, b *Build, path string) {
	if b.Runtime == "" {
		d.fail(node.GetToken(), path, "the key runtime is missing: it is %s", RuntimeGo)
	} else if b.Runtime != RuntimeGo {
		d.fail(valueOf(node, "runtime").GetToken(), path+".runtime", "%q is not a runtime: it is %s", b.Runtime, RuntimeGo)
	}
	if b.Source == "" {
		b.Source = "."
	}
}

// spec checks the values of a function against each other and against their
// bounds, and finds the key to blame.
func (d *decoder) spec(e *ast.MappingValueNode, fn Function, path string) {
	err := check(fn)
	if err == nil {
		return
	}
	key, at := d.blame(e.Value, fn.Contract, path)
	if at == nil {
		key, at = path, e.Key.GetToken()
	}
	d.fail(at, key, "%s", core.AsError(err).Message)
}

func check(fn Function) error {
	if err := fn.Annotations.Validate(); err != nil {
		return err
	}
	return fn.Spec("image").WithDefaults().Validate()
}

// blame finds the first key which by itself, beside the contract, is refused.
func (d *decoder) blame(node ast.Node, contract core.Contract, path string) (string, *token.Token) {
	if check(Function{Contract: contract}) != nil {
		return path + ".contract", valueOf(node, "contract").GetToken()
	}
	quiet := &decoder{}
	for _, e := range entries(node) {
		fields := [][]*ast.MappingValueNode{{e}}
		key := keyText(e)
		inner := key == "limits" || key == "instances" || key == "concurrency"
		if inner {
			fields = nil
			for _, sub := range entries(e.Value) {
				fields = append(fields, []*ast.MappingValueNode{e, sub})
			}
		}
		for _, f := range fields {
			fn := Function{Contract: contract}
			v, last := reflect.ValueOf(&fn).Elem(), f[len(f)-1]
			if inner {
				v = v.FieldByIndex(fieldsOf(v.Type())[key].Index)
			}
			quiet.value(last.Value, v.FieldByIndex(fieldsOf(v.Type())[keyText(last)].Index), "", false)
			if check(fn) == nil {
				continue
			}
			for _, e := range f {
				path += "." + keyText(e)
			}
			return path, last.Value.GetToken()
		}
	}
	return "", nil
}

// structure fills a struct from a mapping.
func (d *decoder) structure(node ast.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	d.mapping(node, path, func(e *ast.MappingValueNode, key string) {
		field, ok := fields[key]
		if !ok {
			d.unknown(e, key, path, v.Type(), fields)
			return
		}
		d.value(e.Value, v.FieldByIndex(field.Index), join(path, key), field.Tag.Get("zero") == "allowed")
	})
}

func (d *decoder) unknown(e *ast.MappingValueNode, key, path string, v reflect.Type, fields map[string]reflect.StructField) {
	if err := core.NotYet(key); err != nil && v == reflect.TypeFor[Function]() {
		d.fail(e.Key.GetToken(), path, "%s", core.AsError(err).Message)
		d.notYet++
		return
	}
	known := slices.Sorted(maps.Keys(fields))
	if near := nearest(key, known); near != "" {
		d.fail(e.Key.GetToken(), path, "unknown key %q; did you mean %q?", key, near)
		return
	}
	d.fail(e.Key.GetToken(), path, "unknown key %q; the keys here are %s", key, strings.Join(known, ", "))
}

// mapping calls each for every entry of a mapping, and refuses what is none
// and keys that stand there twice.
func (d *decoder) mapping(node ast.Node, path string, each func(e *ast.MappingValueNode, key string)) {
	if _, ok := node.(ast.MapNode); !ok {
		d.fail(node.GetToken(), path, "%s is not allowed here: a mapping of keys and values must follow", describe(node))
		return
	}
	seen := map[string]int{}
	for _, e := range entries(node) {
		key, at := keyText(e), e.Key.GetToken()
		if line, ok := seen[key]; ok {
			d.fail(at, path, "the key %q stands here twice: it is in line %d already", key, line)
			continue
		}
		seen[key] = at.Position.Line
		each(e, key)
	}
}

// value fills one field. zero tells whether 0 means something of its own
// there, and not the default.
func (d *decoder) value(node ast.Node, v reflect.Value, path string, zero bool) {
	switch p := v.Addr().Interface().(type) {
	case *core.Bytes:
		scalar(d, node, path, p, core.ParseBytes)
	case *core.CPU:
		scalar(d, node, path, p, core.ParseCPU)
	case *core.CPUWeight:
		scalar(d, node, path, p, parseWeight)
	case *core.Root:
		scalar(d, node, path, p, core.ParseRoot)
		return
	case *time.Duration:
		scalar(d, node, path, p, parseDuration)
	case *core.Annotations:
		*p = d.annotations(node, path)
		return
	case *[]string:
		*p = d.words(node, path)
		return
	case *bool:
		scalar(d, node, path, p, parseBool)
		return
	case *int:
		scalar(d, node, path, p, parseInt)
	default:
		d.compound(node, v, path)
		return
	}
	if v.IsZero() && !zero && len(d.problems) == 0 {
		d.fail(node.GetToken(), path, "0 is not allowed here: write a value over 0, or leave the key out for its default")
	}
}

func (d *decoder) compound(node ast.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(d.text(node, path))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.structure(node, v.Elem(), path)
	case reflect.Slice:
		d.list(node, v, path)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		d.mapping(node, path, func(e *ast.MappingValueNode, key string) {
			elem := reflect.New(v.Type().Elem()).Elem()
			d.value(e.Value, elem, join(path, key), false)
			v.SetMapIndex(reflect.ValueOf(key), elem)
		})
	default:
		d.structure(node, v, path)
	}
}

// list fills a list of mappings.
func (d *decoder) list(node ast.Node, v reflect.Value, path string) {
	items, ok := node.(ast.ArrayNode)
	if !ok {
		d.fail(node.GetToken(), path, "%s is not allowed here: a list must follow, each line of it beginning with -", describe(node))
		return
	}
	for i := items.ArrayRange(); i.Next(); {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.structure(i.Value(), elem, fmt.Sprintf("%s[%d]", path, v.Len()))
		v.Set(reflect.Append(v, elem))
	}
}

// scalar reads a single value by its text.
func scalar[T any](d *decoder, node ast.Node, path string, to *T, parse func(string) (T, error)) {
	text, ok := scalarText(node)
	if !ok {
		d.fail(node.GetToken(), path, "%s is not allowed here: a single value must follow", describe(node))
		return
	}
	v, err := parse(text)
	if err != nil {
		d.fail(node.GetToken(), path, "%s", core.AsError(err).Message)
		return
	}
	*to = v
}

func (d *decoder) text(node ast.Node, path string) string {
	text, ok := scalarText(node)
	if !ok {
		d.fail(node.GetToken(), path, "%s is not allowed here: text must follow, in quotes where it is empty", describe(node))
	}
	return text
}

func (d *decoder) words(node ast.Node, path string) []string {
	list, ok := node.(ast.ArrayNode)
	if !ok {
		d.fail(node.GetToken(), path, `%s is not allowed here: a list must follow, such as ["/app", "-v"]`, describe(node))
		return nil
	}
	var words []string
	for i := list.ArrayRange(); i.Next(); {
		words = append(words, d.text(i.Value(), fmt.Sprintf("%s[%d]", path, len(words))))
	}
	return words
}

func (d *decoder) annotations(node ast.Node, path string) core.Annotations {
	out := core.Annotations{}
	d.mapping(node, path, func(e *ast.MappingValueNode, key string) {
		b, err := json.Marshal(d.plain(e.Value, join(path, key)))
		if err != nil {
			d.fail(e.Value.GetToken(), join(path, key), "this value cannot be written as JSON")
			return
		}
		out[key] = b
	})
	return out
}

// plain gives a value as encoding/json writes it.
func (d *decoder) plain(node ast.Node, path string) any {
	switch n := node.(type) {
	case ast.MapNode:
		out := map[string]any{}
		d.mapping(node, path, func(e *ast.MappingValueNode, key string) { out[key] = d.plain(e.Value, join(path, key)) })
		return out
	case ast.ArrayNode:
		out := []any{}
		for i := n.ArrayRange(); i.Next(); {
			out = append(out, d.plain(i.Value(), path))
		}
		return out
	case *ast.NullNode:
		return nil
	case *ast.LiteralNode:
		return n.Value.Value
	case ast.ScalarNode:
		return n.GetValue()
	}
	d.fail(node.GetToken(), path, "%s is not allowed here", describe(node))
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return 0, core.Invalid("%q is not a duration: write a number and a unit, such as 30s, 500ms or 5m", s)
	}
	return v, nil
}

func parseWeight(s string) (core.CPUWeight, error) {
	n, err := parseInt(s)
	return core.CPUWeight(n), err
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	}
	return false, core.Invalid("%q is neither true nor false", s)
}

func parseInt(s string) (int, error) {
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 {
		return 0, core.Invalid("%q is not a whole number from 0 up", s)
	}
	return v, nil
}
