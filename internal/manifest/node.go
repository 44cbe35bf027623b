package manifest

import (
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// fieldsOf gives the fields of a struct by their keys in the file.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for f := range t.Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" {
			fields[key] = f
		}
	}
	return fields
}

// entries gives the entries of a mapping, none of what is no mapping.
func entries(node ast.Node) []*ast.MappingValueNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// valueOf gives the value under a key of a mapping, nil when there is none.
func valueOf(node ast.Node, key string) ast.Node {
	for _, e := range entries(node) {
		if keyText(e) == key {
			return e.Value
		}
	}
	return nil
}

// keyText gives a key as it is written, without quotes.
func keyText(e *ast.MappingValueNode) string {
	if s, ok := scalarText(e.Key); ok {
		return s
	}
	return e.Key.GetToken().Value
}

// scalarText gives the text of a single value: of a number or a truth value
// as it is written. It reports false for mappings, lists and null.
func scalarText(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true
	}
	return "", false
}

func describe(node ast.Node) string {
	switch node.(type) {
	case *ast.NullNode:
		return "nothing"
	case ast.MapNode:
		return "a mapping"
	case ast.ArrayNode:
		return "a list"
	case ast.ScalarNode:
		return "the single value " + node.GetToken().Value
	}
	return "this"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
