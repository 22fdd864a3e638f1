// Package kubeconfig writes the file that tells kubectl, and every program with
// Kubernetes' client library, where a cluster is and who asks. It leaves alone
// whatever else is in such a file, comments with it.
//
// client-go's own package for it is not used: it would bring the library along.
package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// An Entry is a cluster, a user of it, and a context that joins them.
type Entry struct {
	Name    string // of the user and of the context
	Cluster string // its name
	Server  string // https://host:port
	CA      []byte // PEM: who signs the server's certificate
	Token   string
}

// The parts of an Entry, as the file has them.
type (
	clusterInfo struct {
		Server string `yaml:"server"`
		CA     string `yaml:"certificate-authority-data"`
	}
	userInfo struct {
		Token string `yaml:"token"`
	}
	contextInfo struct {
		Cluster string `yaml:"cluster"`
		User    string `yaml:"user"`
	}
)

// Merge adds e to a kubeconfig, which may be empty, or replaces what it has under
// e's names. The settings of a context that are not e's stay, its namespace for
// one. With use, e's context is the current one from then on.
func Merge(old []byte, e Entry, use bool) ([]byte, error) {
	doc, err := parse(old)
	if err != nil {
		return nil, err
	}
	root := doc.Content[0]
	for _, field := range [][2]string{{"apiVersion", "v1"}, {"kind", "Config"}} {
		if value(root, field[0]) == nil {
			set(root, field[0], scalar(field[1]))
		}
	}
	context := node(contextInfo{Cluster: e.Cluster, User: e.Name})
	err = errors.Join(
		put(root, "clusters", "cluster", e.Cluster, node(clusterInfo{e.Server, base64.StdEncoding.EncodeToString(e.CA)}), false),
		put(root, "users", "user", e.Name, node(userInfo{e.Token}), false),
		put(root, "contexts", "context", e.Name, context, true),
	)
	if err != nil {
		return nil, err
	}
	if use {
		set(root, "current-context", scalar(e.Name))
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent() // as kubectl writes it
	if err := errors.Join(enc.Encode(doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

// CurrentContext returns the name of a kubeconfig's current context; "" without
// one.
func CurrentContext(data []byte) (string, error) {
	doc, err := parse(data)
	if err != nil {
		return "", err
	}
	return text(doc.Content[0], "current-context"), nil
}

// parse reads the one document that a kubeconfig is, a mapping. Nothing is an
// empty one, and so are comments alone, which stay at its head.
func parse(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	doc := new(yaml.Node)
	switch err := dec.Decode(doc); {
	case errors.Is(err, io.EOF):
		return parse(append(bytes.Clone(data), "\nnull"...)) // comments are those of what follows them
	case err == nil && doc.Content[0].Tag == "!!null":
		doc.Content[0] = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", HeadComment: doc.Content[0].HeadComment}
	case err != nil:
		return nil, err
	case doc.Content[0].Kind != yaml.MappingNode:
		return nil, errors.New("not a kubeconfig: it is no mapping")
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a kubeconfig: there is more than one document in it")
	}
	spellNulls(doc)
	return doc, nil
}

// spellNulls gives a word to what has none: the encoder would make some of them
// empty strings.
func spellNulls(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value == "" {
		n.Value = "null"
	}
	for _, child := range n.Content {
		spellNulls(child)
	}
}

// put adds {name: NAME, key: v} to a list of the mapping root, or replaces the v
// of the element of that name. With keep, what the present v has beyond the new
// one stays in it.
func put(root *yaml.Node, list, key, name string, v *yaml.Node, keep bool) error {
	elements := value(root, list)
	switch {
	case elements == nil || elements.Tag == "!!null":
		elements = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		set(root, list, elements)
	case elements.Kind != yaml.SequenceNode:
		return fmt.Errorf("not a kubeconfig: %s is no list", list)
	case len(elements.Content) == 0:
		elements.Style = 0 // [] would go on in one line
	}
	for _, element := range elements.Content {
		if text(element, "name") != name {
			continue
		}
		if old := value(element, key); keep && old != nil && old.Kind == yaml.MappingNode {
			for i := 0; i < len(v.Content); i += 2 {
				set(old, v.Content[i].Value, v.Content[i+1])
			}
			return nil
		}
		set(element, key, v)
		return nil
	}
	element := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	set(element, "name", scalar(name))
	set(element, key, v)
	elements.Content = append(elements.Content, element)
	return nil
}

// value returns what a mapping has under key, or nil.
func value(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// text is value for a string: "" without one.
func text(mapping *yaml.Node, key string) string {
	if v := value(mapping, key); v != nil && v.Kind == yaml.ScalarNode && v.Tag != "!!null" {
		return v.Value
	}
	return ""
}

// set gives a mapping a value under key.
func set(mapping *yaml.Node, key string, v *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content[i+1] = v
			return
		}
	}
	mapping.Content = append(mapping.Content, scalar(key), v)
}

func scalar(s string) *yaml.Node { return node(s) }

func node(v any) *yaml.Node {
	n := new(yaml.Node)
	if err := n.Encode(v); err != nil {
		panic("kubeconfig: " + err.Error())
	}
	return n
}
