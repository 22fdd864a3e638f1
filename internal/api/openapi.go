package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"usher/internal/openapi"
)

// The media types of an OpenAPI v2 document as a protocol buffer: kubectl before
// 1.27 asks for the first. "@" may not be in a media type (RFC 9110), and what
// reads answers strictly refuses it, so they bear the second, as in
// k8s.io/kube-openapi/pkg/handler.
const (
	acceptOpenAPI = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	mediaOpenAPI  = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
)

// documents are the OpenAPI documents of a Server, made when somebody asks.
type documents struct {
	v2      func() (document, error) // as JSON
	v2Proto func() (document, error)
	v3      map[string]func() (document, error) // by openapi.Root
}

// A document is a body that clients may keep as long as it is the same.
type document struct {
	body []byte
	hash string
}

func newDocument(body []byte) document {
	sum := sha256.Sum256(body)
	return document{body, hex.EncodeToString(sum[:])}
}

func newDocuments(version string) documents {
	once := func(make func() ([]byte, error)) func() (document, error) {
		return sync.OnceValues(func() (document, error) {
			body, err := make()
			return newDocument(body), err
		})
	}
	d := documents{
		v2:      once(func() ([]byte, error) { return openapi.V2(version) }),
		v2Proto: once(func() ([]byte, error) { return openapi.V2Protobuf(version) }),
		v3:      make(map[string]func() (document, error)),
	}
	for _, gv := range openapi.GroupVersions() {
		d.v3[openapi.Root(gv)] = once(func() ([]byte, error) { return openapi.V3(gv, version) })
	}
	return d
}

// openapi returns what serves a path below /openapi, or nil.
func (s *Server) openapi(segments []string) func(http.ResponseWriter, *http.Request) error {
	switch {
	case len(segments) == 2 && segments[1] == "v2":
		return func(w http.ResponseWriter, r *http.Request) error {
			accept := r.Header.Get("Accept")
			if strings.Contains(accept, acceptOpenAPI) || strings.Contains(accept, mediaOpenAPI) {
				return answerDocument(w, r, mediaOpenAPI, s.documents.v2Proto)
			}
			return answerDocument(w, r, mediaJSON, s.documents.v2)
		}
	case len(segments) == 2 && segments[1] == "v3":
		return s.openapiIndex
	case len(segments) > 2 && segments[1] == "v3":
		doc := s.documents.v3[strings.Join(segments[2:], "/")]
		if doc == nil {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request) error { return answerDocument(w, r, mediaJSON, doc) }
	}
	return nil
}

// openapiIndex answers with where the v3 documents are. The hash in an address
// changes with the document: clients keep what they have read for long.
func (s *Server) openapiIndex(w http.ResponseWriter, r *http.Request) error {
	type link struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := make(map[string]link)
	for root, make := range s.documents.v3 {
		doc, err := make()
		if err != nil {
			return err
		}
		paths[root] = link{"/openapi/v3/" + root + "?hash=" + doc.hash}
	}
	return answer(w, encoding{}, http.StatusOK, map[string]any{"paths": paths})
}

// answerDocument writes a document, unless the client has it.
func answerDocument(w http.ResponseWriter, r *http.Request, media string, make func() (document, error)) error {
	doc, err := make()
	if err != nil {
		return fmt.Errorf("make the document: %w", err)
	}
	etag := strconv.Quote(doc.hash)
	w.Header().Set("ETag", etag)
	w.Header().Set("Vary", "Accept")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(doc.body)))
	w.Write(doc.body)
	return nil
}
