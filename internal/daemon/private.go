package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"usher/internal/api"
	"usher/internal/sockets"
	"usher/internal/vip"
	"usher/proxy"
	"usher/registry"
)

// A privateView is the View of a program in a network namespace of its own
// (usher exec --mode private). It is there for as long as the sockets of that
// namespace are lent.
type privateView struct {
	*vip.View
	sockets    *sockets.Borrower
	nameserver netip.AddrPort
}

// at returns an address in the namespace.
func (v *privateView) at(addr netip.AddrPort) proxy.ListenAddr {
	return proxy.ListenAddr{AddrPort: addr, Sockets: v.sockets}
}

// ListenUDP and ListenTCP implement dns.Sockets.
func (v *privateView) ListenUDP(_ context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	return v.at(addr).ListenUDP()
}

func (v *privateView) ListenTCP(_ context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	return v.at(addr).ListenTCP()
}

// privateViews are those that are there now.
type privateViews struct {
	mu  sync.RWMutex
	all []*privateView
}

func (p *privateViews) add(v *privateView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, v)
}

func (p *privateViews) remove(v *privateView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.DeleteFunc(p.all, func(other *privateView) bool { return other == v })
}

func (p *privateViews) list() []*privateView {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Clone(p.all)
}

// listen returns where the proxy listens for a Frontend in private Views.
func (p *privateViews) listen(key registry.FrontendKey) (list []proxy.ListenAddr) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, v := range p.all {
		if addr, _, ok := v.Listen(key.AddrPort()); ok {
			list = append(list, v.at(addr))
		}
	}
	return list
}

// showIn shows the Services in a network namespace until ctx is done or its
// sockets are not lent any more.
func (d *daemon) showIn(ctx context.Context, view api.PrivateView, lender *net.UnixConn) error {
	borrower := sockets.NewBorrower(lender)
	defer borrower.Close()
	v := &privateView{
		View:       vip.Private(view.NetNS, fmt.Sprintf("of usher exec --mode private (pid %d): %s", view.PID, view.Command), view.CIDRs...),
		sockets:    borrower,
		nameserver: netip.AddrPortFrom(d.serviceIP(registry.DNSOffset), 53),
	}
	names := dnsView(v.View, v.nameserver)
	names.Sockets = v
	l, err := d.dns.Listen(ctx, names)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serving.Go(func() {
		if err := l.Serve(ctx); err != nil {
			d.Log.Warn("nameserver ended", "view", v.Name(), "pid", view.PID, "error", err)
		}
	})

	d.private.add(v)
	defer d.hide(ctx, v)
	if err := d.proxy.Refresh(ctx); err != nil {
		return err
	}
	if err := borrower.Ready(); err != nil {
		return nil // it has ended
	}
	select {
	case <-borrower.Done():
	case <-ctx.Done():
	}
	return nil
}

// hide closes what is open in a private View. When ctx is done, so is the proxy,
// which closes all.
func (d *daemon) hide(ctx context.Context, v *privateView) {
	d.private.remove(v)
	_ = d.proxy.Refresh(ctx)
}
