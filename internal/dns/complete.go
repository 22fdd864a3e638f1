package dns

import (
	"strings"

	"github.com/miekg/dns"
)

// ndots is how many dots a name has at least that a Pod does not search for
// (option ndots:5 of its resolv.conf).
const ndots = 5

// complete answers what req is about along the search list of a Pod, for
// programs that have the one of the host. It returns false, and leaves reply as
// it is, for a name that a Pod would ask for as it was typed.
func (r *responder) complete(reply, req *dns.Msg) bool {
	question := req.Question[0]
	domain := r.zone.domain
	name := dns.CanonicalName(question.Name)
	if r.namespace == "" || name == "." || strings.Count(name, ".") > ndots || dns.IsSubDomain(domain, name) || dns.IsSubDomain("arpa.", name) {
		return false
	}
	return r.walk(reply, req, question.Name, []string{r.namespace + ".svc." + domain, "svc." + domain, domain})
}
