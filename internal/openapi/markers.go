package openapi

import (
	_ "embed"
	"encoding/json"
	"strings"
	"sync"
)

// markers.txt is written by `go test ./internal/openapi -run TestMarkers -update`.
//
//go:embed markers.txt
var markersText string

// markers are what the comments of a type or of a field say, as
// sigs.k8s.io/structured-merge-diff and Kubernetes' generators read them.
type markers struct {
	listType string   // "atomic", "set" or "map"
	listKeys []string // of a map
	atomic   bool     // a struct or a map is replaced as a whole
	optional bool
	required bool
	fallback any      // the default; nil without
	enum     []string // the values of a type
}

// knownMarkers has the markers of each type by its name, and of each field by
// the name of its type, a dot, and its own in JSON.
var knownMarkers = sync.OnceValue(func() map[string]markers {
	all := make(map[string]markers)
	for line := range strings.Lines(markersText) {
		if words := strings.Fields(line); len(words) > 0 {
			all[words[0]] = parseMarkers(words[1:])
		}
	}
	return all
})

func parseMarkers(words []string) markers {
	var m markers
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "listType":
			m.listType = value
		case "listMapKey":
			m.listKeys = append(m.listKeys, value)
		case "structType", "mapType":
			m.atomic = value == "atomic"
		case "optional":
			m.optional = true
		case "required":
			m.required = true
		case "default":
			if err := json.Unmarshal([]byte(value), &m.fallback); err != nil {
				panic("markers.txt: " + word + ": " + err.Error())
			}
		case "enum":
			m.enum = strings.Split(value, ",")
		}
	}
	return m
}
