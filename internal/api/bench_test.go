package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// BenchmarkList lists 1,000 Services with three Pods each, as kubectl and as
// client-go ask for them.
func BenchmarkList(b *testing.B) {
	var objects []registry.Object
	for i := range 1000 {
		name := fmt.Sprintf("s%04d", i)
		objects = append(objects, at(5, service("bench", name, fmt.Sprintf("10.96.%d.%d", 16+i/250, 1+i%250))))
		for j := range 3 {
			objects = append(objects, at(5, pod("bench", fmt.Sprint(name, "-", j), name, fmt.Sprintf("10.%d.%d.%d", 1+j, i/250, 1+i%250), true)))
		}
	}
	for _, form := range []struct{ name, accept string }{
		{"table", "application/json;as=Table;v=v1;g=meta.k8s.io"},
		{"json", mediaJSON},
	} {
		b.Run(form.name, func(b *testing.B) {
			s, _ := newTestServer(b, 9, objects...)
			h := s.Handler()
			for b.Loop() {
				r := httptest.NewRequest("GET", "/api/v1/services", nil)
				r.Header.Set("Accept", form.accept)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK || w.Body.Len() < 100_000 {
					b.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
				}
			}
		})
	}
}

// BenchmarkWatchEvent measures from the moment a write is sent to the API until
// a watch has its event: more than the way from etcd's commit, as the
// commit is in it.
func BenchmarkWatchEvent(b *testing.B) {
	s := newRegistryServer(b)
	socket, _, _ := start(b, s)
	const path = "/api/v1/namespaces/bench/services"
	client := unixClient(b, socket)
	client.Timeout = 0 // the watch is as long as the benchmark
	send := func(method, path, media, body string) (*http.Response, error) {
		r, err := http.NewRequest(method, "http://usher"+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", media)
		resp, err := client.Do(r)
		if err == nil && resp.StatusCode >= 300 {
			resp.Body.Close()
			err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return resp, err
	}
	write := func(method, path, media, body string) error {
		resp, err := send(method, path, media, body)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := write("POST", path, mediaYAML, "apiVersion: v1\nkind: Service\nmetadata: {name: pay}\nspec: {ports: [{port: 80}]}\n"); err != nil {
		b.Fatal(err)
	}
	watch, err := send("GET", path+"?watch=1", mediaJSON, "")
	if err != nil {
		b.Fatal(err)
	}
	defer watch.Body.Close()
	events := json.NewDecoder(watch.Body)
	next := func() (e struct{ Object corev1.Service }) {
		if err := events.Decode(&e); err != nil {
			b.Fatal(err)
		}
		return e
	}
	next() // the Service as it was made
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		answered := make(chan error, 1)
		go func() {
			answered <- write("PATCH", path+"/pay", "application/merge-patch+json", `{"metadata":{"annotations":{"i":"`+strconv.Itoa(i)+`"}}}`)
		}()
		if e := next(); e.Object.Annotations["i"] != strconv.Itoa(i) {
			b.Fatalf("event of change %s, want %d", e.Object.Annotations["i"], i)
		}
		took = append(took, time.Since(began))
		if err := <-answered; err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
