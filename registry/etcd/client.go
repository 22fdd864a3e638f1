package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"usher/registry"
)

// requestTimeout bounds one request. It is long enough for the embedded etcd
// to be started again in between, which takes 0.2 s.
const requestTimeout = 2 * time.Second

// Config says where etcd is.
type Config struct {
	Endpoints []string // unix:///path, or http(s)://host:port
	CAFile    string   // of the server's certificate; "": the system's
	CertFile  string   // of the client, with KeyFile; "": none
	KeyFile   string
	Username  string
	Password  string
}

// A Client reads and writes the registry. It is safe for concurrent use.
type Client struct {
	etcd   *clientv3.Client
	mirror atomic.Pointer[Mirror] // the last one that runs with this Client, or nil
}

// Dial makes a Client. It does not wait for a connection: requests do, each up
// to its limit of 2 s. Only with a Username it asks etcd for a token, and its
// error is an ErrUnavailable when etcd does not answer. The caller must Close
// the Client.
func Dial(ctx context.Context, c Config) (*Client, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, err
	}
	for _, endpoint := range c.Endpoints {
		// Before anybody else makes it and answers in the server's place.
		if socket, ok := strings.CutPrefix(endpoint, "unix://"); ok && inTemporary(socket) {
			if err := makePrivate(filepath.Dir(socket)); err != nil {
				return nil, err
			}
		}
	}
	client, err := clientv3.New(clientv3.Config{
		Context: context.WithoutCancel(ctx), Endpoints: c.Endpoints,
		TLS: tlsConfig, Username: c.Username, Password: c.Password,
		Logger: zap.NewNop(), DialTimeout: requestTimeout,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		DialOptions: []grpc.DialOption{
			// The embedded etcd is back within 0.2 s of its end: look often.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: requestTimeout,
			}),
			grpc.WithStatsHandler(sentRequests{}),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("dial etcd at %s: %w", strings.Join(c.Endpoints, ", "), explain(err))
	}
	return &Client{etcd: client}, nil
}

// tls returns the TLS configuration, or nil when no endpoint is https.
func (c Config) tls() (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" {
		for _, endpoint := range c.Endpoints {
			if strings.HasPrefix(endpoint, "https://") {
				return &tls.Config{MinVersion: tls.VersionTLS12}, nil
			}
		}
		return nil, nil
	}
	info := transport.TLSInfo{TrustedCAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile}
	config, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read etcd certificates: %w", err)
	}
	return config, nil
}

// Close closes the connections.
func (c *Client) Close() error { return c.etcd.Close() }

// Get returns an object as it is in etcd now, or ErrNotFound.
func (c *Client) Get(ctx context.Context, key registry.Key) (registry.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	known := c.known()
	resp, err := c.etcd.Get(ctx, key.String())
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, explain(err))
	}
	c.answered(known, resp.Header.Revision, false)
	if len(resp.Kvs) == 0 {
		return nil, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return registry.Decode(key, resp.Kvs[0].Value, resp.Kvs[0].ModRevision)
}

// Status says in a line where etcd is and how it fares. It asks all endpoints
// at once: one that is away must not take the time of the others.
func (c *Client) Status(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	endpoints := c.etcd.Endpoints()
	lines := make([]string, len(endpoints))
	var asked sync.WaitGroup
	for i, endpoint := range endpoints {
		asked.Go(func() { lines[i] = endpoint + ": " + c.endpointStatus(ctx, endpoint) })
	}
	asked.Wait()
	return strings.Join(lines, "; ")
}

func (c *Client) endpointStatus(ctx context.Context, endpoint string) string {
	s, err := c.etcd.Status(ctx, endpoint)
	if err != nil {
		return explain(err).Error()
	}
	facts := []string{fmt.Sprintf("etcd %s, %d KiB", s.Version, s.DbSize/1024)}
	if s.Leader == s.Header.MemberId {
		facts = append(facts, "leader")
	}
	facts = append(facts, s.Errors...) // no leader, alarms
	return strings.Join(facts, ", ")
}
