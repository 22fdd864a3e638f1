package api

import (
	"net/http"
	"slices"
	"unicode/utf8"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"usher/registry"
)

// Limits of the Warning headers of an answer, in characters: beyond the first
// each warning is cut to the second, and there is an end. They are
// Kubernetes'.
const (
	maxWarnings = 4096
	maxWarning  = 256
)

// warn adds all warnings of an answer to its headers, each once. Clients show
// them to people.
func warn(h http.Header, warnings []string) {
	total := 0
	for _, text := range warnings {
		total += utf8.RuneCountInString(text)
	}
	left := maxWarnings
	for i, text := range warnings {
		if total > maxWarnings {
			runes := []rune(text)
			text = string(runes[:min(len(runes), maxWarning, left)])
		}
		left -= utf8.RuneCountInString(text)
		if text == "" || slices.Contains(warnings[:i], text) {
			continue
		}
		if header, err := utilnet.NewWarningHeader(299, "", text); err == nil { // of valid text
			h.Add("Warning", header)
		}
	}
}

// deprecating is serve with the warning that there is about requests for
// objects of a Kind.
func deprecating(k *registry.Kind, serve func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	text := k.Deprecation()
	if text == "" {
		return serve
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		noted(w).warn(text)
		return serve(w, r)
	}
}
