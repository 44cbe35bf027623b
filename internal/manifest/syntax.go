package manifest

import (
	"bytes"
	"errors"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is how deep a manifest may be nested. The keys of the format need
// five levels; the rest is for annotations.
const maxDepth = 32

// syntax reads the text to the mapping that is its only document. It gives
// nil when there is an error.
func (d *decoder) syntax(text []byte) ast.Node {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	tokens := lexer.Tokenize(string(text))
	if !d.harmless(tokens) {
		return nil
	}
	// Duplicates are allowed here because this package has its own, better
	// words for them.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if e, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			d.fail(e.Token, "", "not YAML: %s", e.Message)
		} else {
			d.fail(nil, "", "not YAML: %v", err)
		}
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case body != nil:
			d.fail(doc.Body.GetToken(), "", "a second document: a manifest is one")
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		d.fail(nil, "", "the manifest is empty: it needs the key functions")
		return nil
	}
	if _, ok := body.(ast.MapNode); !ok {
		d.fail(body.GetToken(), "", "the manifest is not a mapping: it begins with a key, such as functions:")
		return nil
	}
	return body
}

// harmless refuses, before a tree is built, what could make a small file cost
// much: deep nesting, and the parts of YAML that refer or convert.
func (d *decoder) harmless(tokens token.Tokens) bool {
	depth, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.AnchorType, token.AliasType:
			d.fail(t, "", "anchors and aliases (& and *) are not allowed: write the value out")
			return false
		case token.TagType:
			d.fail(t, "", "tags (!) are not allowed: write the plain value, in quotes where it is text")
			return false
		case token.MergeKeyType:
			d.fail(t, "", "merge keys (<<) are not allowed: write the values out")
			return false
		case token.MappingKeyType:
			d.fail(t, "", "keys marked by ? are not allowed: write key: value")
			return false
		case token.DirectiveType:
			d.fail(t, "", "directives (%%) are not allowed")
			return false
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType:
			dashes++
		default:
		}
		if depth > maxDepth || dashes > maxDepth || t.Position.IndentNum > 16*maxDepth {
			d.fail(t, "", "nested too deep: %d levels are the most", maxDepth)
			return false
		}
	}
	return true
}
