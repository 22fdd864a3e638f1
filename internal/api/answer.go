package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"usher/registry"
)

// A list is the answer to a list request, as Kubernetes' typed lists are.
type list struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []registry.Object `json:"items"`
}

func newList(k *registry.Kind, meta metav1.ListMeta, items []registry.Object) list {
	if items == nil {
		items = []registry.Object{} // clients expect an array, not null
	}
	return list{
		TypeMeta: metav1.TypeMeta{Kind: k.Kind + "List", APIVersion: k.GroupVersion().String()},
		ListMeta: meta,
		Items:    items,
	}
}

// listMeta returns the metadata of a list of all that there is in a snapshot.
func listMeta(snapshot *registry.Snapshot) metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: strconv.FormatInt(snapshot.Revision(), 10)}
}

// answer writes v with a status code. It returns an error only when nothing
// has been written: one from the connection means that the client has gone,
// and is nobody's concern any more.
func answer(w http.ResponseWriter, enc encoding, code int, v any) error {
	body, err := json.Marshal(v)
	if err == nil && enc.yaml {
		body, err = yaml.JSONToYAML(body)
	}
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	if !enc.yaml {
		body = append(body, '\n')
	}
	w.Header().Set("Content-Type", enc.mediaType())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	w.Write(body)
	return nil
}

// answerError writes err as a Status object and returns its code.
func answerError(w http.ResponseWriter, err error) int {
	status := statusOf(err)
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	if status.Code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	answer(w, encoding{}, int(status.Code), status)
	return int(status.Code)
}

// statusOf returns the Status object that says what err does.
func statusOf(err error) *metav1.Status {
	var known apierrors.APIStatus
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
	case errors.As(err, &tooLarge):
		known = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", tooLarge.Limit))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		known = apierrors.NewTimeoutError(err.Error(), 1)
	default:
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return &status
}

// errNoResource is the answer to a path that is not served.
func errNoResource() error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false)
}

// errNoMethod is the answer to a method that a path does not have.
func errNoMethod() error {
	return apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "", 0, false)
}
