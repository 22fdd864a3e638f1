package api

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/podlog"
)

// TestPodLog has what the API says of a log beside its lines.
func TestPodLog(t *testing.T) {
	s, store := newTestServer(t, 9)
	p := pod("finance", "pay-1", "pay", "10.1.0.5", true)
	put(store, 10, p)
	bare := pod("finance", "bare", "pay", "10.1.0.6", true)
	put(store, 11, bare)
	s.opts.Logs = func(_ context.Context, w io.Writer, pod *corev1.Pod, o corev1.PodLogOptions) error {
		if pod.Name == "bare" {
			return podlog.ErrNotKept
		}
		var since, tail, limit int64
		if o.SinceSeconds != nil {
			since = *o.SinceSeconds
		}
		if o.TailLines != nil {
			tail = *o.TailLines
		}
		if o.LimitBytes != nil {
			limit = *o.LimitBytes
		}
		_, err := fmt.Fprintf(w, "%s follow=%t timestamps=%t since=%d,%v tail=%d limit=%d\n", o.Container, o.Follow, o.Timestamps, since, o.SinceTime != nil, tail, limit)
		return err
	}
	const log = "/api/v1/namespaces/finance/pods/pay-1/log"
	tests := []struct {
		url     string
		code    int
		message string
	}{
		{log, 200, "main follow=false timestamps=false since=0,false tail=0 limit=0\n"},
		{log + "?follow=true&timestamps&tailLines=3&limitBytes=9&sinceSeconds=5&container=main", 200, "main follow=true timestamps=true since=5,false tail=3 limit=9\n"},
		{log + "?follow=false&sinceTime=2026-01-01T00:00:00Z", 200, "main follow=false timestamps=false since=0,true tail=0 limit=0\n"},
		{log + "?container=other", 400, "container other is not valid for pod pay-1"},
		{log + "?previous=true", 400, `previous terminated container "main" in pod "pay-1" not found`},
		{log + "?tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"},
		{log + "?tailLines=x", 400, "invalid syntax"},
		{log + "?limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"},
		{log + "?sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"},
		{log + "?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422, "at most one of `sinceTime` or `sinceSeconds` may be specified"},
		{log + "?sinceTime=today", 400, "cannot parse"},
		{"/api/v1/namespaces/finance/pods/none/log", 404, `pods "none" not found`},
		{"/api/v1/namespaces/finance/pods/bare/log", 400, `the log of pod "bare" is not kept here`},
		{"/api/v1/namespaces/finance/services/pay/log", 404, "could not find the requested resource"},
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	get := func(url string) reply {
		resp, err := server.Client().Get(server.URL + url)
		if err != nil {
			t.Fatal(err)
		}
		return readReply(t, resp)
	}
	for _, tt := range tests {
		got := get(tt.url)
		text := got.status.Message
		if got.code == 200 {
			text = got.body
		}
		if got.code != tt.code || !strings.Contains(text, tt.message) {
			t.Errorf("%s: %d %q, want %d %q", tt.url, got.code, text, tt.code, tt.message)
		}
	}
	if got := get(log); !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
		t.Errorf("content type %q", got.header.Get("Content-Type"))
	}
	if got := ask(t, s.Handler(), "POST", log, ""); got.code != 405 {
		t.Errorf("POST: %d", got.code)
	}
}

// TestSilentLog checks that a log is followed for longer than a client may
// leave it unread, over HTTP/2 too.
func TestSilentLog(t *testing.T) {
	s, _ := newTestServer(t, 9, at(9, pod("finance", "pay-1", "pay", "10.1.0.5", true)))
	s.limits.write, s.limits.stall = 100*time.Millisecond, 100*time.Millisecond
	s.opts.Logs = func(ctx context.Context, w io.Writer, _ *corev1.Pod, _ corev1.PodLogOptions) error {
		for _, line := range []string{"one\n", "two\n"} {
			select {
			case <-time.After(400 * time.Millisecond):
			case <-ctx.Done(): // it has been cut off
			}
			if _, err := io.WriteString(w, line); err != nil {
				return err
			}
		}
		return nil
	}
	roots := certify(t, s)
	_, control, _ := start(t, s)
	for _, http2 := range []bool{false, true} {
		resp, err := tlsClient(t, roots, http2).Get("https://" + control + "/api/v1/namespaces/finance/pods/pay-1/log?follow=true")
		if err != nil {
			t.Errorf("HTTP/2 %t: %v", http2, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "one\ntwo\n" || err != nil {
			t.Errorf("%s: %q, %v", resp.Proto, body, err)
		}
	}
}
