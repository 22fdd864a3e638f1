package api

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// A Question asks what would become of a connection, a datagram or a DNS query.
// It is the query of GET /apis/usher.internal/v1/explain.
type Question struct {
	About     string `json:"about"`          // "tcp", "udp" or "dns"
	Target    string `json:"target"`         // NAME:PORT or ADDRESS:PORT; for dns a NAME or an ADDRESS
	Type      string `json:"type,omitempty"` // of the records, for dns; A and AAAA without it, PTR for an address
	Namespace string `json:"namespace"`      // of who asks
}

// An Explanation is the answer to a Question: each decision on the way, in
// their order, and what comes out.
type Explanation struct {
	metav1.TypeMeta `json:",inline"`

	Question    Question              `json:"question"`
	Names       []NameExplanation     `json:"names,omitempty"` // along the search path, until one exists
	Service     string                `json:"service,omitempty"`
	ServiceType string                `json:"serviceType,omitempty"` // or "headless"
	Port        string                `json:"port,omitempty"`        // of the Service
	Frontends   []FrontendExplanation `json:"frontends,omitempty"`
	Endpoints   []registry.Verdict    `json:"endpoints,omitempty"` // of a headless Service

	Works      bool     `json:"works"`
	Conclusion string   `json:"conclusion"`
	Advice     []string `json:"advice,omitempty"`
}

// A NameExplanation says what a name on the search path has.
type NameExplanation struct {
	Name      string       `json:"name"`
	Rcode     string       `json:"rcode,omitempty"` // "" when upstreams have the answer
	Why       string       `json:"why,omitempty"`
	Records   []ViewRecord `json:"records,omitempty"`
	Upstreams []string     `json:"upstreams,omitempty"` // who is asked for Forwarded
	Forwarded string       `json:"forwarded,omitempty"`
}

// A ViewRecord is a DNS record, and the View that has it; "" for all.
type ViewRecord struct {
	View   string `json:"view,omitempty"`
	Record string `json:"record"`
}

// A FrontendExplanation says how a port of a Service is served at one of its
// addresses.
type FrontendExplanation struct {
	Address   string             `json:"address"`
	Holder    string             `json:"holder,omitempty"` // the other Service that has the address
	Listeners []ListenerReport   `json:"listeners,omitempty"`
	Endpoints []registry.Verdict `json:"endpoints,omitempty"`
	Next      string             `json:"next,omitempty"` // the endpoint of the next connection, where that is known
}

// A ListenerReport says where this node listens for a Frontend.
type ListenerReport struct {
	View    string `json:"view,omitempty"`
	Address string `json:"address"`
	Moved   bool   `json:"moved,omitempty"` // the port is not the Service's
	Error   string `json:"error,omitempty"` // why it does not
}

// explain answers a Question.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.snapshot(r.Context(), 0); err != nil {
		return err
	}
	query := r.URL.Query()
	out, err := s.opts.Explain(Question{
		About: query.Get("about"), Target: query.Get("target"), Type: query.Get("type"), Namespace: query.Get("namespace"),
	})
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	out.TypeMeta = metav1.TypeMeta{Kind: "Explanation", APIVersion: Group + "/" + Version}
	return answer(w, encoding{}, http.StatusOK, out)
}

// ServiceReasons says of each port of a Service what becomes of its endpoints,
// at GET /apis/usher.internal/v1/explain/NAMESPACE/NAME.
type ServiceReasons struct {
	metav1.TypeMeta `json:",inline"`

	Ports []PortReasons `json:"ports"` // as in the Service
}

// PortReasons is about one port.
type PortReasons struct {
	Why       string             `json:"why,omitempty"` // it is not served at all
	Endpoints []registry.Verdict `json:"endpoints,omitempty"`
}

// explainService answers with the reasons of a Service.
func (s *Server) explainService(w http.ResponseWriter, r *http.Request, namespace, name string) error {
	snapshot, err := s.snapshot(r.Context(), 0)
	if err != nil {
		return err
	}
	svc := snapshot.Service(namespace, name)
	if svc == nil {
		return apierrors.NewNotFound(registry.Services.GroupResource(), name)
	}
	out := ServiceReasons{TypeMeta: metav1.TypeMeta{Kind: "ServiceReasons", APIVersion: Group + "/" + Version}}
	for _, port := range svc.Spec.Ports {
		trace := snapshot.Explain(svc, port)
		reasons := PortReasons{Why: trace.Why, Endpoints: trace.Endpoints}
		for _, f := range trace.Frontends {
			if f.Reach == registry.ByClusterIP {
				reasons.Endpoints = append(reasons.Endpoints, f.Endpoints...)
			}
		}
		out.Ports = append(out.Ports, reasons)
	}
	return answer(w, encoding{}, http.StatusOK, out)
}
