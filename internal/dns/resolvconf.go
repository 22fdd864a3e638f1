package dns

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// statEvery is how often a resolv.conf is looked at for a change: as little as
// it costs, not for each query.
const statEvery = time.Second

// maxSearch is as many domains as Kubernetes lets a Pod have beside its own
// three.
const maxSearch = 29

// A ResolvConf has what a resolv.conf(5) file says, and reads it
// again when the file has changed. It is safe for concurrent use.
type ResolvConf struct {
	path string

	mu      sync.Mutex // guards the following
	looked  time.Time
	read    os.FileInfo // the file as it was read last
	servers []netip.AddrPort
	search  []string
}

// NewResolvConf reads the file at path. One that is not there, now or later,
// names no nameservers other than those read last.
func NewResolvConf(path string) *ResolvConf {
	r := &ResolvConf{path: path}
	r.Upstreams()
	return r
}

// Upstreams returns the nameservers, at most three, the best first. It can be
// given as Options.Upstreams.
func (r *ResolvConf) Upstreams() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.servers
}

// Search returns the search list. It can be given as Options.Search.
func (r *ResolvConf) Search() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.search
}

// look reads the file if it is another one than last time, or was written
// since. The caller must hold mu.
func (r *ResolvConf) look() {
	now := time.Now()
	if !r.looked.IsZero() && now.Sub(r.looked) < statEvery {
		return
	}
	r.looked = now
	info, err := os.Stat(r.path)
	if err != nil {
		return
	}
	if r.read != nil && os.SameFile(info, r.read) && info.Size() == r.read.Size() && info.ModTime().Equal(r.read.ModTime()) {
		return
	}
	text, err := os.ReadFile(r.path)
	if err != nil {
		return
	}
	r.read, r.servers, r.search = info, parseNameservers(string(text)), parseSearch(string(text))
}

// parseSearch returns the search list: the last one counts.
func parseSearch(text string) []string {
	var search []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 1 && (fields[0] == "search" || fields[0] == "domain") {
			search = fields[1:]
		}
	}
	return search[:min(len(search), maxSearch)]
}

// parseNameservers returns the nameservers that a resolver would use. Lines it
// does not understand are skipped, as every resolver does.
func parseNameservers(text string) []netip.AddrPort {
	var servers []netip.AddrPort
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == maxUpstreams {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr.Unmap(), 53))
		}
	}
	return servers
}
