package api

import (
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// maxLeaseTTL is the longest a lease may last without being renewed, in
// seconds.
const maxLeaseTTL = 3600

// cutGroup returns what follows the group and version of usher's own
// resources. It reports false for any other path, and for the Kinds that the
// registry has of that group.
func cutGroup(segments []string) ([]string, bool) {
	if len(segments) < 4 || segments[0] != "apis" || segments[1] != Group || segments[2] != Version || kindOf(Group, Version, segments[3]) != nil {
		return nil, false
	}
	return segments[3:], true
}

// routeOwn finds what serves a request for one of usher's own resources.
func (s *Server) routeOwn(r *http.Request, rest []string) (call, error) {
	c := call{resource: rest[0]}
	switch {
	case rest[0] == "status" && len(rest) == 1 && s.opts.Status != nil:
		c.verb, c.serve = "get", s.status
		return c, onlyRead(r)
	case rest[0] == "connections" && len(rest) == 1 && r.Method == http.MethodPost && s.opts.Reports != nil:
		c.verb, c.serve = "connect", s.report
		return c, nil
	case rest[0] == "connections" && len(rest) == 1 && s.opts.Connections != nil:
		c.verb, c.serve = "list", s.connections
		return c, onlyRead(r)
	case rest[0] == "views" && len(rest) == 1 && r.Method == http.MethodPost && s.opts.ShowIn != nil:
		c.verb, c.serve = "connect", s.lend
		return c, nil
	case rest[0] == "ejections" && len(rest) == 1 && s.opts.Ejections != nil:
		c.verb, c.serve = "list", s.ejections
		return c, onlyRead(r)
	case rest[0] == "explain" && len(rest) == 1 && s.opts.Explain != nil:
		c.verb, c.serve = "get", s.explain
		return c, onlyRead(r)
	case rest[0] == "explain" && len(rest) == 3:
		c.verb, c.serve = "get", func(w http.ResponseWriter, r *http.Request) error { return s.explainService(w, r, rest[1], rest[2]) }
		return c, onlyRead(r)
	case rest[0] != leaseResource.Resource || len(rest) > 2:
		return call{}, errNoResource()
	case s.opts.Writer == nil:
		return call{}, apierrors.NewServiceUnavailable("the registry cannot be written here")
	}
	if err := refuseDryRun(r.URL.Query()["dryRun"]); err != nil {
		return call{}, err
	}
	switch {
	case len(rest) == 1 && r.Method == http.MethodPost:
		c.verb, c.serve = "create", s.grantLease
	case len(rest) == 2 && r.Method == http.MethodPut:
		c.verb, c.serve = "update", func(w http.ResponseWriter, r *http.Request) error { return s.renewLease(w, r, rest[1]) }
	case len(rest) == 2 && r.Method == http.MethodDelete:
		c.verb, c.serve = "delete", func(w http.ResponseWriter, r *http.Request) error { return s.revokeLease(w, r, rest[1]) }
	default:
		return call{}, errNoMethod()
	}
	return c, nil
}

// onlyRead refuses a request that does more than read.
func onlyRead(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errNoMethod()
	}
	return nil
}

// status answers with what the daemon says about itself.
func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	status := s.opts.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: Group + "/" + Version}
	return answer(w, encoding{}, http.StatusOK, status)
}

func (s *Server) grantLease(w http.ResponseWriter, r *http.Request) error {
	lease, err := readLease(w, r)
	if err != nil {
		return err
	}
	if ttl := lease.Spec.TTLSeconds; ttl < 1 || ttl > maxLeaseTTL {
		return apierrors.NewInvalid(schema.GroupKind{Group: Group, Kind: "Lease"}, lease.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "ttlSeconds"), ttl, fmt.Sprintf("must be between 1 and %d, inclusive", maxLeaseTTL)),
		})
	}
	lease.Name, err = s.opts.Writer.GrantLease(r.Context(), time.Duration(lease.Spec.TTLSeconds)*time.Second)
	if err != nil {
		return err
	}
	noted(w).object = lease.Name
	return answer(w, encoding{}, http.StatusCreated, lease)
}

func (s *Server) renewLease(w http.ResponseWriter, r *http.Request, name string) error {
	lease, err := readLease(w, r)
	if err != nil {
		return err
	}
	if lease.Name != "" && lease.Name != name {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", lease.Name, name))
	}
	lease.Name = name
	if err := s.opts.Writer.RenewLease(r.Context(), name); err != nil {
		return err
	}
	return answer(w, encoding{}, http.StatusOK, lease)
}

func (s *Server) revokeLease(w http.ResponseWriter, r *http.Request, name string) error {
	if err := s.opts.Writer.RevokeLease(r.Context(), name); err != nil {
		return err
	}
	return answer(w, encoding{}, http.StatusOK, success(metav1.StatusDetails{
		Name: name, Group: leaseResource.Group, Kind: leaseResource.Resource,
	}))
}

// readLease reads a Lease from the body of a request, which may be empty.
func readLease(w http.ResponseWriter, r *http.Request) (Lease, error) {
	var lease Lease
	body, err := readBody(w, r, "Lease")
	if err != nil {
		return lease, err
	}
	if len(body) > 0 {
		if err := yaml.UnmarshalStrict(body, &lease); err != nil {
			return lease, apierrors.NewBadRequest(fmt.Sprintf("decode Lease: %v", err))
		}
	}
	lease.TypeMeta = metav1.TypeMeta{Kind: "Lease", APIVersion: Group + "/" + Version}
	return lease, nil
}
