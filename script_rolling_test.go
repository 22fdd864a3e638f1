package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/client"
	"usher/registry"
)

// cmdRolling replaces the replicas of a Service one after the other, again and
// again, while clients connect to it a number of times, and fails when one of
// these connections does: rolling COUNT.
func cmdRolling(ts *testscript.TestScript, neg bool, args []string) {
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	c, err := client.New(ts.Getenv("USHER_SERVER"), "")
	ts.Check(err)
	defer c.Close()
	r := &rollout{client: c}
	defer r.stop()
	vip, err := r.begin(3)
	ts.Check(err)

	ctx, cancel := context.WithCancel(context.Background())
	rolled := make(chan error, 1)
	go func() { rolled <- r.roll(ctx) }()
	failed := connectMany(vip, count)
	cancel()
	ts.Check(<-rolled)
	fmt.Fprintf(ts.Stdout(), "%d connections, %d replicas replaced\n", count, r.replaced)
	if len(failed) > 0 {
		ts.Fatalf("%d of %d connections failed; the first: %v", len(failed), count, failed[0])
	}
	if r.replaced < 3 {
		ts.Fatalf("only %d replicas were replaced meanwhile", r.replaced)
	}
}

// A rollout is a Service whose replicas are replaced: a new one is ready before
// an old one is terminating, and that one ends a turn later, as one does that
// gets a grace period.
type rollout struct {
	client   *client.Client
	slice    *discoveryv1.EndpointSlice
	replicas []*replica // in the order of the slice's endpoints
	replaced int
}

// begin creates the Service with some replicas and returns its address.
func (r *rollout) begin(replicas int) (vip string, err error) {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = "default", "rolling"
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	created, err := r.client.Create(context.Background(), svc)
	if err != nil {
		return "", err
	}
	for range replicas {
		if err := r.start(); err != nil {
			return "", err
		}
	}
	return created.(*corev1.Service).Spec.ClusterIP + ":80", r.write()
}

// roll replaces replicas until ctx is done.
func (r *rollout) roll(ctx context.Context) error {
	var leaving *replica
	for ctx.Err() == nil {
		if err := r.start(); err != nil {
			return err
		}
		if err := r.write(); err != nil {
			return err
		}
		r.replicas[0].terminating = true
		if err := r.write(); err != nil {
			return err
		}
		if leaving != nil {
			leaving.stop()
		}
		leaving, r.replicas = r.replicas[0], r.replicas[1:]
		r.replaced++
		if err := r.write(); err != nil {
			return err
		}
	}
	if leaving != nil {
		leaving.stop()
	}
	return nil
}

// write makes the EndpointSlice say what the replicas are. It returns when the
// daemon serves that.
func (r *rollout) write() error {
	write := r.client.Update
	if r.slice == nil {
		write = r.client.Create
		r.slice = newBenchSlice(0, "127.0.0")
		r.slice.Name, r.slice.Labels[discoveryv1.LabelServiceName] = "rolling", "rolling"
	}
	// Each replica has an address of its own, and all have one port.
	r.slice.Ports[0].Port = new(int32(rollingPort))
	r.slice.Endpoints = nil
	for _, p := range r.replicas {
		e := discoveryv1.Endpoint{Addresses: []string{p.addr.IP.String()}}
		if p.terminating {
			e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
		}
		r.slice.Endpoints = append(r.slice.Endpoints, e)
	}
	written, err := write(context.Background(), r.slice)
	if err != nil {
		return err
	}
	r.slice.ResourceVersion = written.GetResourceVersion()
	return nil
}

const rollingPort = 3010

func (r *rollout) start() error {
	p, err := startReplica(len(r.replicas) + r.replaced)
	if err == nil {
		r.replicas = append(r.replicas, p)
	}
	return err
}

func (r *rollout) stop() {
	for _, p := range r.replicas {
		p.stop()
	}
}

// A replica answers each connection after its first byte.
type replica struct {
	addr        *net.TCPAddr
	listener    net.Listener
	work        sync.WaitGroup
	terminating bool
}

func startReplica(n int) (*replica, error) {
	addr := &net.TCPAddr{IP: net.IPv4(127, 5, byte(n>>8), byte(n)), Port: rollingPort}
	l, err := net.ListenTCP("tcp4", addr)
	if err != nil {
		return nil, err
	}
	p := &replica{addr: addr, listener: l}
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() {
				defer c.Close()
				var b [1]byte
				if _, err := io.ReadFull(c, b[:]); err == nil {
					c.Write(b[:])
				}
			})
		}
	})
	return p, nil
}

// stop ends the replica when its connections have ended.
func (p *replica) stop() {
	p.listener.Close()
	p.work.Wait()
}

// connectMany connects a number of times, some at a time, and returns how
// those failed that did.
func connectMany(address string, count int) []error {
	var next atomic.Int64
	var mu sync.Mutex
	var failed []error
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for next.Add(1) <= int64(count) {
				if err := connectOnce(address); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	clients.Wait()
	return failed
}

// connectOnce sends a byte and wants it back, and nothing after it.
func connectOnce(address string) error {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte{'x'}); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && string(got) != "x" {
		err = errors.New("answer " + strconv.Quote(string(got)))
	}
	return err
}
