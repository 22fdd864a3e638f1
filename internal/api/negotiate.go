package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"usher/registry"
)

const (
	mediaJSON = "application/json"
	mediaYAML = "application/yaml"

	// mediaProtobuf is taken, and not answered with.
	mediaProtobuf = runtime.ContentTypeProtobuf
)

// An encoding is the form of an answer.
type encoding struct {
	yaml  bool // JSON otherwise
	table bool // a meta.k8s.io/v1 Table in the place of objects
}

// mediaType returns the value of Content-Type.
func (e encoding) mediaType() string {
	if e.yaml {
		return mediaYAML
	}
	return mediaJSON
}

// negotiate returns the encoding that suits an Accept header best: the first
// one of the highest quality (RFC 9110, 12.5.1). The error is 406 when none
// does.
func negotiate(accept string) (encoding, error) {
	type choice struct {
		encoding
		quality float64
	}
	if strings.TrimSpace(accept) == "" {
		return encoding{}, nil
	}
	var choices []choice
	for part := range strings.SplitSeq(accept, ",") {
		enc, quality, ok := parseAccept(part)
		if ok && quality > 0 {
			choices = append(choices, choice{enc, quality})
		}
	}
	if len(choices) == 0 {
		return encoding{}, notAcceptable(mediaJSON, mediaYAML)
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(b.quality, a.quality) })
	return choices[0].encoding, nil
}

// parseAccept reads one media range. It reports false for one that is not
// served.
func parseAccept(part string) (enc encoding, quality float64, ok bool) {
	media, params, err := mime.ParseMediaType(part)
	if err != nil {
		return encoding{}, 0, false
	}
	quality = 1
	if q, given := params["q"]; given {
		if quality, err = strconv.ParseFloat(q, 64); err != nil {
			return encoding{}, 0, false
		}
	}
	switch media {
	case "*/*", "application/*", mediaJSON:
	case mediaYAML:
		enc.yaml = true
	default:
		return encoding{}, 0, false
	}
	switch as := params["as"]; {
	case as == "":
		return enc, quality, true
	case as == "Table" && params["g"] == metav1.GroupName && params["v"] == "v1":
		enc.table = true
		return enc, quality, true
	}
	return encoding{}, 0, false
}

func notAcceptable(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: fmt.Sprintf("only the following media types are accepted: %s", strings.Join(accepted, ", ")),
	}}
}

// decodeJSON returns a body, which is JSON, YAML or protobuf by its type, as
// JSON: one document and nothing else. A body without a type is taken for
// JSON. Other types are refused with 415.
func decodeJSON(header string, body []byte) ([]byte, error) {
	media := mediaJSON
	if header != "" {
		var err error
		if media, _, err = mime.ParseMediaType(header); err != nil {
			media = header
		}
	}
	switch media {
	case mediaJSON:
		var document json.RawMessage
		err := json.Unmarshal(body, &document)
		return document, err
	case mediaYAML:
		return registry.ToJSON(body)
	case mediaProtobuf:
		return fromProtobuf(body)
	}
	return nil, unsupportedMedia(mediaJSON, mediaYAML, mediaProtobuf)
}

func unsupportedMedia(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s", strings.Join(accepted, ", ")),
	}}
}
