package api

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EjectionList is which backends this node tries last, at
// /apis/usher.internal/v1/ejections.
type EjectionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Ejection `json:"items"`
}

// Ejection says why a backend of a Service is tried last. Addresses have their
// ports.
type Ejection struct {
	Namespace string      `json:"namespace"`
	Service   string      `json:"service"`
	PortName  string      `json:"portName,omitempty"`
	Protocol  string      `json:"protocol"`
	VIP       string      `json:"vip"`
	Backend   string      `json:"backend"`
	Pod       string      `json:"pod,omitempty"`
	Since     metav1.Time `json:"since"`
	Until     metav1.Time `json:"until"` // when a connection may try it again
	Error     string      `json:"error"` // how the last one ended
}

// ejections answers with the backends that are ejected: of all Services, or of
// those of a namespace and a name.
func (s *Server) ejections(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	list := EjectionList{
		TypeMeta: metav1.TypeMeta{Kind: "EjectionList", APIVersion: Group + "/" + Version},
		Items:    []Ejection{},
	}
	for _, e := range s.opts.Ejections() {
		if namespace := query.Get("namespace"); namespace != "" && namespace != e.Namespace {
			continue
		}
		if service := query.Get("service"); service != "" && service != e.Service {
			continue
		}
		list.Items = append(list.Items, e)
	}
	return answer(w, encoding{}, http.StatusOK, list)
}
