package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"usher/internal/api"
	"usher/internal/dns"
	"usher/registry"
)

// candidates returns what a resolver asks for, in turn, when a program wants a
// name.
func (e *explainer) candidates(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var list []string
	for _, domain := range append(registry.SearchPath(e.Question.Namespace, e.Domain), e.Search()...) {
		list = append(list, name+"."+strings.TrimSuffix(domain, ".")+".")
	}
	if strings.Count(name, ".") >= registry.Ndots {
		return append([]string{name + "."}, list...)
	}
	return append(list, name+".")
}

// lookup asks for a name along the search path, until one exists. It returns
// that answer, or when none does that of a Service, or the last one.
func (e *explainer) lookup(name string, qtypes ...string) (dns.Lookup, error) {
	var best dns.Lookup
	for _, candidate := range e.candidates(name) {
		l, err := e.ask(candidate, qtypes...)
		if err != nil {
			return best, err
		}
		if l.Found() {
			return l, nil
		}
		if best.Service == nil {
			best = l
		}
	}
	return best, nil
}

// ask asks for one name in each View, and notes what there is. It returns the
// answer that has the most.
func (e *explainer) ask(name string, qtypes ...string) (best dns.Lookup, err error) {
	views := e.Views
	if len(views) == 0 {
		views = []dns.View{{}}
	}
	n := api.NameExplanation{Name: name}
	for i, v := range views {
		for j, qtype := range qtypes {
			l, err := e.DNS.Explain(e.snap, v, name, qtype)
			if err != nil {
				return l, err
			}
			for _, rr := range l.Records {
				if r := (api.ViewRecord{View: v.Name, Record: rr}); !slices.Contains(n.Records, r) {
					n.Records = append(n.Records, r)
				}
			}
			if i == 0 && j == 0 || len(l.Records) > len(best.Records) {
				best = l
			}
		}
	}
	n.Rcode, n.Upstreams, n.Forwarded = best.Rcode, best.Upstreams, best.Forwarded
	if len(n.Records) == 0 {
		n.Why = best.Why
	}
	e.Names = append(e.Names, n)
	return best, nil
}

// byName takes the Service that a name belongs to, or concludes why there is
// none.
func (e *explainer) byName(name string, found dns.Lookup) bool {
	switch {
	case found.Service != nil:
		e.service = found.Service
		return true
	case found.Found() && len(found.Records) > 0:
		e.conclude(true, "%s is no name of a Service: connections go to its address, and usher has no part in them", found.Name)
	case found.Found():
		e.conclude(false, "%s exists, and has no address", found.Name)
	default:
		e.noService(name, found)
	}
	return false
}

// noService says why a name is no Service's: which part of it there is not.
func (e *explainer) noService(name string, last dns.Lookup) {
	service, namespace, ok := e.split(name)
	switch {
	case !ok:
		e.conclude(false, "%s is not the name of a Service", name)
	case !e.snap.HasNamespace(namespace) && !e.hasServices(namespace):
		e.conclude(false, "namespaces %q not found", namespace)
		e.suggest("namespace", nearest(namespace, e.names(registry.Namespaces, "")))
	default:
		e.conclude(false, "services %q not found in namespace %q", service, namespace)
		e.suggest("service", nearest(service, e.names(registry.Services, namespace)))
	}
	if ok {
		for svc := range e.snap.Services("") {
			if svc.Name == service && svc.Namespace != namespace {
				e.advise("namespace %q has a service of that name: %s.%s", svc.Namespace, svc.Name, svc.Namespace)
			}
		}
	}
	if last.Forwarded != "" {
		e.Conclusion += "; the name is asked of upstream nameservers"
	}
}

// isOurs reports whether a name can be meant for a Service.
func (e *explainer) isOurs(name string) bool {
	_, namespace, ok := e.split(name)
	return ok && e.snap.HasNamespace(namespace)
}

func (e *explainer) hasServices(namespace string) bool {
	for range e.snap.Services(namespace) {
		return true
	}
	return false
}

func (e *explainer) names(kind *registry.Kind, namespace string) []string {
	var list []string
	for obj := range e.snap.List(kind, namespace) {
		list = append(list, obj.GetName())
	}
	return list
}

func (e *explainer) suggest(what string, names []string) {
	if len(names) > 0 {
		e.advise("did you mean the %s %s?", what, strings.Join(names, " or "))
	}
}

// split reads a name as that of a Service, as far as it is spelled out.
func (e *explainer) split(name string) (service, namespace string, ok bool) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	for _, suffix := range []string{".svc." + strings.ToLower(e.Domain), ".svc"} {
		name = strings.TrimSuffix(name, suffix)
	}
	labels := strings.Split(name, ".")
	if len(labels) > 2 {
		labels = labels[len(labels)-2:] // of an endpoint or a port of it
	}
	switch {
	case labels[0] == "" || strings.Contains(name, ".pod."):
		return "", "", false
	case len(labels) == 1:
		return labels[0], e.Question.Namespace, true
	}
	return labels[0], labels[1], true
}

// maxNearest is how many names are suggested.
const maxNearest = 3

// nearest returns those of names that name may be a slip of, the nearest first.
func nearest(name string, names []string) []string {
	distance := func(other string) int { return levenshtein.ComputeDistance(name, other) }
	var near []string
	for _, other := range names {
		if distance(other) <= max(2, len(name)/4) || strings.HasPrefix(other, name) || strings.HasPrefix(name, other) {
			near = append(near, other)
		}
	}
	slices.SortStableFunc(near, func(a, b string) int { return distance(a) - distance(b) })
	return near[:min(len(near), maxNearest)]
}

// query explains a DNS query.
func (e *explainer) query() error {
	name, qtypes := e.Question.Target, []string{e.Question.Type}
	addr, err := netip.ParseAddr(name)
	switch {
	case err == nil:
		if name, err = dns.ReverseName(addr.Unmap()); err != nil {
			return err
		}
		if e.Question.Type == "" {
			qtypes = []string{"PTR"}
		}
	case e.Question.Type == "":
		qtypes = []string{"A", "AAAA"}
	}
	found, err := e.lookup(name, qtypes...)
	if err != nil {
		return err
	}
	if found.Service != nil {
		e.Service = found.Service.Namespace + "/" + found.Service.Name
	}
	switch {
	case len(found.Records) > 0 && found.Forwarded != "":
		e.conclude(true, "%s is an alias of %s, which upstream nameservers know", found.Name, found.Forwarded)
	case len(found.Records) > 0:
		e.conclude(true, "%s is answered with %s", found.Name, count(len(e.Names[len(e.Names)-1].Records), "record"))
	case found.Found():
		e.conclude(false, "%s exists, and has no record of the type %s", found.Name, strings.Join(qtypes, " or "))
	case found.Service != nil || addr.IsValid():
		e.conclude(false, "%s does not exist: %s", found.Name, found.Why)
	case found.Forwarded != "" && !e.isOurs(name):
		e.conclude(true, "%s is no name of usher's: upstream nameservers are asked", found.Name)
	default:
		e.noService(name, found)
	}
	return nil
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}
