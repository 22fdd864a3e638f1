package api

import (
	"net/http"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestNegotiate(t *testing.T) {
	const kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
	tests := []struct {
		accept string
		want   encoding
		none   bool
	}{
		{accept: ""},
		{accept: "*/*"},
		{accept: "application/*"},
		{accept: "application/json"},
		{accept: "application/json; charset=utf-8"},
		{accept: "application/yaml", want: encoding{yaml: true}},
		{accept: kubectl, want: encoding{table: true}},
		{accept: "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"},
		{accept: "application/yaml;as=Table;v=v1;g=meta.k8s.io", want: encoding{yaml: true, table: true}},
		{accept: "application/vnd.kubernetes.protobuf,application/json"},
		{accept: "application/json;q=0.5,application/yaml", want: encoding{yaml: true}},
		{accept: "application/json;q=0,application/yaml;q=0.1", want: encoding{yaml: true}},
		{accept: "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}, // a browser
		{accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"},

		{accept: "text/html", none: true},
		{accept: "application/json;q=0", none: true},
		{accept: "application/json;q=x", none: true},
		{accept: ",", none: true},
		{accept: "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", none: true},
		{accept: "application/vnd.kubernetes.protobuf", none: true},
	}
	for _, tt := range tests {
		got, err := negotiate(tt.accept)
		if tt.none != (err != nil) || got != tt.want {
			t.Errorf("negotiate(%q) = %+v, %v, want %+v, error %t", tt.accept, got, err, tt.want, tt.none)
		}
		if err != nil && apierrors.ReasonForError(err) != "NotAcceptable" {
			t.Errorf("negotiate(%q): %v", tt.accept, err)
		}
	}
}

func TestContentType(t *testing.T) {
	tests := map[string]int32{
		"":                                  0,
		"application/json":                  0,
		"application/json; charset=UTF-8":   0,
		"application/yaml":                  0,
		"text/plain":                        http.StatusUnsupportedMediaType,
		"application/x-www-form-urlencoded": http.StatusUnsupportedMediaType,
		";":                                 http.StatusUnsupportedMediaType,
	}
	for header, want := range tests {
		_, err := decodeJSON(header, []byte("{}"))
		if got := int32(0); err != nil {
			got = statusOf(err).Code
			if got != want {
				t.Errorf("%q: %v, want code %d", header, err, want)
			}
		} else if want != 0 {
			t.Errorf("%q is taken, want code %d", header, want)
		}
	}
}
