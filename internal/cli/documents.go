package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"
	goyaml "sigs.k8s.io/yaml/goyaml.v2"
)

// A document is one object of a file, as JSON.
type document struct {
	place string // in the file, as in "document 2"; "" if it is the only one
	data  []byte
}

// parseDocuments reads the objects of a file: one or more documents of YAML or
// JSON. Those without content are left out, and lists are taken apart.
func parseDocuments(data []byte) ([]document, error) {
	var values []json.RawMessage
	for _, part := range splitYAML(data) {
		found, err := part.values()
		if err != nil {
			return nil, err
		}
		values = append(values, found...)
	}
	var documents []document
	for i, value := range values {
		place := ""
		if len(values) > 1 {
			place = fmt.Sprintf("document %d", i+1)
		}
		items, isList, err := listItems(value)
		if err != nil {
			return nil, err
		}
		if !isList {
			documents = append(documents, document{place, value})
			continue
		}
		for j, item := range items {
			at := strings.TrimPrefix(fmt.Sprintf("%s, item %d", place, j+1), ", ")
			documents = append(documents, document{at, item})
		}
	}
	return documents, nil
}

// A part is the text between two markers of a YAML stream.
type part struct {
	line int // lines of the file before it
	text []byte
}

// splitYAML splits a stream at its document markers: lines that begin with
// "---" or "..." and go on with nothing or white space (YAML 1.2.2, 9.1.2).
// Such a line is never content of a document, whatever it stands in. What
// follows "---" in its line belongs to the document.
func splitYAML(data []byte) []part {
	parts := []part{{}}
	line := 0
	for text := range bytes.Lines(data) {
		last := &parts[len(parts)-1]
		if rest, ok := cutMarker(text); ok {
			parts = append(parts, part{line: line})
			last = &parts[len(parts)-1]
			text = rest
		}
		last.text = append(last.text, text...)
		line++
	}
	return parts
}

// cutMarker returns what follows a document marker in its line.
func cutMarker(line []byte) (rest []byte, ok bool) {
	for _, marker := range []string{"---", "..."} {
		rest, ok := bytes.CutPrefix(line, []byte(marker))
		if ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0]))) {
			return bytes.TrimLeft(rest, " \t"), true
		}
	}
	return nil, false
}

// values returns the values of a part as JSON: more than one only if it is
// JSON already, none if it is empty or has directives and comments only.
func (p part) values() ([]json.RawMessage, error) {
	if bytes.HasPrefix(p.text, []byte("\xfe\xff")) || bytes.HasPrefix(p.text, []byte("\xff\xfe")) {
		// YAML would read it, but not what is behind a marker in it.
		return nil, errors.New("it is UTF-16: save it as UTF-8")
	}
	if values, ok := jsonValues(p.text); ok {
		return values, nil
	}
	if onlyDirectives(p.text) {
		return nil, nil
	}
	value, err := yamlToJSON(p.text)
	if err != nil {
		// Again with the lines before it, so that the error names the right one.
		padded := append(bytes.Repeat([]byte("\n"), p.line), p.text...)
		if _, e := yamlToJSON(padded); e != nil {
			err = e
		}
		return nil, fmt.Errorf("error converting YAML to JSON: %w", err)
	}
	if string(value) == "null" {
		return nil, nil
	}
	return []json.RawMessage{value}, nil
}

// yamlToJSON converts one document. It refuses text behind the end of it, as
// in "{a: 1} {a: 2}", which the decoder alone would not look at.
func yamlToJSON(text []byte) ([]byte, error) {
	d := goyaml.NewDecoder(bytes.NewReader(text))
	var first, second any
	if err := d.Decode(&first); err == nil {
		if err := d.Decode(&second); !errors.Is(err, io.EOF) {
			return nil, cmp.Or(err, errors.New("there is more than one document"))
		}
	}
	return yaml.YAMLToJSONStrict(text)
}

// jsonValues reads JSON values that follow each other. It reports false if
// text is anything else.
func jsonValues(text []byte) ([]json.RawMessage, bool) {
	var values []json.RawMessage
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var value json.RawMessage
		err := d.Decode(&value)
		if errors.Is(err, io.EOF) {
			return values, true
		}
		if err != nil || value[0] != '{' {
			return nil, false // also a scalar, which YAML has an opinion of
		}
		values = append(values, value)
	}
}

// onlyDirectives reports whether text is the head of a document, as
// "%YAML 1.2", that its marker cut off.
func onlyDirectives(text []byte) bool {
	directives := 0
	for line := range bytes.Lines(text) {
		switch line = bytes.TrimSpace(line); {
		case bytes.HasPrefix(line, []byte("%")):
			directives++
		case len(line) > 0 && line[0] != '#':
			return false
		}
	}
	return directives > 0
}

// listItems returns the items of a v1 List, or of a typed one such as a
// ServiceList, whose items may leave out what they are. It reports false for
// other objects.
func listItems(value json.RawMessage) (items []json.RawMessage, ok bool, err error) {
	var list struct {
		APIVersion string                       `json:"apiVersion"`
		Kind       string                       `json:"kind"`
		Items      []map[string]json.RawMessage `json:"items"`
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(value, &head) != nil || !strings.HasSuffix(head.Kind, "List") {
		return nil, false, nil
	}
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, false, fmt.Errorf("read a %s: %w", head.Kind, err)
	}
	of := strings.TrimSuffix(list.Kind, "List")
	for _, item := range list.Items {
		if item == nil {
			continue
		}
		if _, given := item["kind"]; !given && of != "" {
			item["kind"], _ = json.Marshal(of)
			item["apiVersion"], _ = json.Marshal(list.APIVersion)
		}
		data, err := json.Marshal(item)
		if err != nil {
			return nil, false, err
		}
		items = append(items, data)
	}
	return items, true, nil
}
