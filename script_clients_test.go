package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// cmdEtcdCompact makes the daemon's etcd forget all that has been, but for what
// is.
func cmdEtcdCompact(ts *testscript.TestScript, neg bool, args []string) {
	c, err := dialEtcd(ts)
	ts.Check(err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	now, err := c.Get(ctx, "/")
	ts.Check(err)
	_, err = c.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	ts.Check(err)
}

// cmdSameDNS asks two nameservers the same and waits until their answers differ
// in what it is told alone: samedns ONE OTHER QUESTIONS DIFFERENCES. QUESTIONS
// is a file with a name and a type on each line. Of each question whose answers
// differ, DIFFERENCES has the name and type, what only the one says, each behind
// "<", and what only the other does, behind ">".
func cmdSameDNS(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: samedns ONE OTHER QUESTIONS DIFFERENCES")
	}
	var questions []string
	for line := range strings.Lines(ts.ReadFile(args[2])) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			questions = append(questions, line)
		}
	}
	want, got := ts.ReadFile(args[3]), ""
	if !poll(func() bool {
		got = dnsDifferences(args[0], args[1], questions)
		return got == want
	}) {
		ts.Fatalf("the answers to %d questions differ:\n%s", len(questions), got)
	}
	fmt.Fprintf(ts.Stdout(), "%d questions\n", len(questions))
}

func dnsDifferences(one, other string, questions []string) string {
	var text strings.Builder
	for _, q := range questions {
		name, typ, _ := strings.Cut(q, " ")
		a, b := dnsAnswer(one, name, typ), dnsAnswer(other, name, typ)
		if slices.Equal(a, b) {
			continue
		}
		fmt.Fprintln(&text, q)
		for _, line := range a {
			if !slices.Contains(b, line) {
				fmt.Fprintln(&text, "<", line)
			}
		}
		for _, line := range b {
			if !slices.Contains(a, line) {
				fmt.Fprintln(&text, ">", line)
			}
		}
	}
	return text.String()
}

// dnsAnswer returns the rcode and the records of an answer, sorted: servers
// shuffle addresses. Without an answer it returns why.
func dnsAnswer(server, name, typ string) []string {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.StringToType[typ])
	in, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(m, server)
	if err != nil {
		return []string{err.Error()}
	}
	lines := []string{dns.RcodeToString[in.Rcode]}
	for _, rr := range in.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Serial = 0 // each counts in its own way
		}
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	for _, rr := range in.Ns {
		lines = append(lines, "authority: "+dns.TypeToString[rr.Header().Rrtype]+" "+rr.Header().Name)
	}
	for _, rr := range in.Extra {
		lines = append(lines, "additional: "+strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(lines)
	return lines
}
