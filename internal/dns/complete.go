package dns

import (
	"strings"

	"github.com/miekg/dns"

	"usher/registry"
)

// complete answers what req is about along the search list of a Pod, for
// programs that have the one of the host. It returns false, and leaves reply as
// it is, for a name that a Pod would ask for as it was typed.
func (r *responder) complete(reply, req *dns.Msg) bool {
	question := req.Question[0]
	domain := r.zone.domain
	name := dns.CanonicalName(question.Name)
	if r.namespace == "" || name == "." || strings.Count(name, ".") > registry.Ndots || dns.IsSubDomain(domain, name) || dns.IsSubDomain("arpa.", name) {
		return false
	}
	return r.walk(reply, req, question.Name, registry.SearchPath(r.namespace, domain))
}
