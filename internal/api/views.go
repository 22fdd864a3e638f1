package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/sockets"
)

// A PrivateView is a network namespace that its maker wants to see the Services:
// what is asked for by a POST to /apis/usher.internal/v1/views with these values
// in its query, which is upgraded to the protocol of package sockets.
type PrivateView struct {
	NetNS   uint64         // inode of the namespace
	PID     int            // of the process that made it
	Command string         // the program in there, for people
	CIDRs   []netip.Prefix // addresses that are local in there: ClusterIPs
}

// Target returns where the request is sent.
func (v PrivateView) Target() string {
	var cidrs []string
	for _, p := range v.CIDRs {
		cidrs = append(cidrs, p.String())
	}
	query := url.Values{
		"netns": {strconv.FormatUint(v.NetNS, 10)}, "pid": {strconv.Itoa(v.PID)}, "command": {clip(v.Command)},
		"cidr": {strings.Join(cidrs, ",")},
	}
	return "/apis/" + Group + "/" + Version + "/views?" + query.Encode()
}

// parseView reads the query of a request.
func parseView(r *http.Request) (v PrivateView, err error) {
	q := r.URL.Query()
	v.Command = q.Get("command")
	if v.NetNS, err = strconv.ParseUint(q.Get("netns"), 10, 64); err != nil {
		return v, apierrors.NewBadRequest(fmt.Sprintf("netns: %v", err))
	}
	if v.PID, err = strconv.Atoi(q.Get("pid")); err != nil {
		return v, apierrors.NewBadRequest(fmt.Sprintf("pid: %v", err))
	}
	for text := range strings.SplitSeq(q.Get("cidr"), ",") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return v, apierrors.NewBadRequest(fmt.Sprintf("cidr: %v", err))
		}
		v.CIDRs = append(v.CIDRs, p.Masked())
	}
	return v, nil
}

// lend shows the Services in the namespace of who asks, for as long as that lends
// its sockets.
func (s *Server) lend(w http.ResponseWriter, r *http.Request) error {
	if _, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); !ok {
		return apierrors.NewBadRequest("sockets can be lent over the unix socket alone")
	}
	if r.Header.Get("Upgrade") != sockets.Protocol {
		return apierrors.NewBadRequest("want an upgrade to " + sockets.Protocol)
	}
	view, err := parseView(r)
	if err != nil {
		return err
	}
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take over a connection: %w", err)
	}
	defer c.Close()
	noted(w).object, noted(w).code = strconv.Itoa(view.PID), http.StatusSwitchingProtocols
	lender := c.(*conn).Conn.(*net.UnixConn) // descriptors come by calls that only it has
	if lender.SetDeadline(time.Time{}) != nil {
		return nil // it is gone
	}
	const accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + sockets.Protocol + "\r\n\r\n"
	if _, err := lender.Write([]byte(accepted)); err != nil {
		return nil
	}
	ctx, cancel := s.watchContext(context.WithoutCancel(r.Context()), nil)
	defer cancel()
	if err := s.opts.ShowIn(ctx, view, lender); err != nil {
		s.log.Warn("Services are not shown in a network namespace", "pid", view.PID, "command", clip(view.Command), "error", err)
	}
	return nil
}
