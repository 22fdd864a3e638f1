package api

import (
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConnectionList is what is open on this node, at
// /apis/usher.internal/v1/connections. How many were left out for the limit is
// in remainingItemCount.
type ConnectionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Connection `json:"items"`
}

// Connection is a TCP connection or a UDP flow through this node's proxy, or a
// TCP connection of a program under usher exec straight to a backend. Addresses
// have their ports.
type Connection struct {
	Namespace string      `json:"namespace"`
	Service   string      `json:"service"`
	PortName  string      `json:"portName,omitempty"`
	Protocol  string      `json:"protocol"`
	Client    string      `json:"client,omitempty"` // "" when it is gone
	VIP       string      `json:"vip"`
	Listener  string      `json:"listener,omitempty"` // of the proxy, where the client has come to: the VIP, or what stands for it in a View
	Backend   string      `json:"backend,omitempty"`
	Pod       string      `json:"pod,omitempty"` // of the backend
	Node      string      `json:"node,omitempty"`
	StartTime metav1.Time `json:"startTime"`
	BytesUp   uint64      `json:"bytesUp"` // from the client to the backend
	BytesDown uint64      `json:"bytesDown"`
	State     string      `json:"state"`
	Path      string      `json:"path"` // "proxy" or "direct"

	// The rest is known of those with the path "direct".
	PID     int              `json:"pid,omitempty"`
	Command string           `json:"command,omitempty"`
	RTT     *metav1.Duration `json:"rtt,omitempty"` // to the backend and back, smoothed
}

// ConnectionQuery says which connections are asked for.
type ConnectionQuery struct {
	Namespace string   // "": all
	Services  []string // by name; none: all
	Limit     int
}

// The limit of connections in one answer, which is in memory as a whole: when
// none is given, and at most.
const (
	defaultConnections = 1000
	maxConnections     = 100_000
)

func parseConnectionQuery(v url.Values) (ConnectionQuery, error) {
	q := ConnectionQuery{Namespace: v.Get("namespace"), Services: v["service"], Limit: defaultConnections}
	if limit := v.Get("limit"); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 {
			return q, apierrors.NewBadRequest("limit must be a positive number, got " + strconv.Quote(limit))
		}
		q.Limit = min(n, maxConnections)
	}
	return q, nil
}

// connections answers with what is open.
func (s *Server) connections(w http.ResponseWriter, r *http.Request) error {
	q, err := parseConnectionQuery(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := s.opts.Connections(r.Context(), q)
	if err != nil {
		return err
	}
	list.TypeMeta = metav1.TypeMeta{Kind: "ConnectionList", APIVersion: Group + "/" + Version}
	if list.Items == nil {
		list.Items = []Connection{}
	}
	return answer(w, encoding{}, http.StatusOK, list)
}
