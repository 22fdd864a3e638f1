package dns

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"usher/registry"
)

// numbered is the fixture with n more Services, svc-0 and so on, each with a
// ClusterIP of its own.
func numbered(t testing.TB, n int) *registry.Store {
	t.Helper()
	store := fixture(t)
	var writes []registry.Write
	for i := range n {
		writes = append(writes, write(service(fmt.Sprintf("finance/svc-%d", i), numberedIP(i), "http 80/TCP")))
	}
	store.Apply(fixtureRevision+1, writes)
	return store
}

func numberedIP(i int) string { return fmt.Sprintf("10.96.%d.%d", 200+i/250, i%250) }

// A thousand clients ask at once, each once and for something else, over UDP
// and over TCP: each gets its own answer.
func TestParallelQueries(t *testing.T) {
	const clients = 1000
	server := start(t, New(Options{Store: numbered(t, clients), ServiceCIDR: ranges()}), anyIP())
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var done sync.WaitGroup
			begin := make(chan struct{})
			for i := range clients {
				done.Go(func() {
					query := newQuery(t, fmt.Sprintf("svc-%d.finance.svc.cluster.local. A", i))
					client := dns.Client{Net: network, Timeout: 20 * time.Second}
					<-begin
					reply, _, err := client.Exchange(query, server.String())
					if err != nil {
						t.Errorf("query %d is lost: %v", i, err)
						return
					}
					if reply.Id != query.Id || len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != numberedIP(i) {
						t.Errorf("query %d has the answer of another:\n%v", i, reply)
					}
				})
			}
			began := time.Now()
			close(begin)
			done.Wait()
			t.Logf("%d queries over %s took %v", clients, network, time.Since(began).Round(time.Millisecond))
		})
	}
}
