package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"usher/internal/client"
	"usher/registry"
)

// A logsCommand prints what the processes of Pods have written.
type logsCommand struct {
	*globals
	selector   string
	container  string
	follow     bool
	previous   bool
	timestamps bool
	prefix     bool
	tail       int64 // -1: all
	limitBytes int64 // 0: no limit
	since      time.Duration
	sinceTime  string

	writing sync.Mutex // held while a line of one of several logs is written
}

// maxFollowed is how many logs are followed at once, as with kubectl.
const maxFollowed = 5

func newLogsCommand(g *globals) *cobra.Command {
	l := &logsCommand{globals: g}
	cmd := &cobra.Command{
		Use: "logs (POD | TYPE/NAME | -l SELECTOR)", Short: "Print what the processes of Pods have written",
		Long: `Print what the processes of Pods have written to their standard output and error.
usher run keeps the last 2 to 4 MB of each, until its Pod is gone. Of a Service
it is the log of one of its Pods.`,
		Example: `  usher logs payment-0 -n finance
  usher logs -f svc/payment-service --tail 20
  usher logs -l app=payment --prefix`,
		RunE: func(cmd *cobra.Command, args []string) error { return l.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVarP(&l.selector, "selector", "l", "", "the Pods with these labels")
	f.StringVarP(&l.container, "container", "c", "", "the container, of which a Pod has one")
	f.BoolVarP(&l.follow, "follow", "f", false, "go on with what is written")
	f.BoolVarP(&l.previous, "previous", "p", false, "of the process before, which is not kept")
	f.BoolVar(&l.timestamps, "timestamps", false, "when each line came")
	f.BoolVar(&l.prefix, "prefix", false, "the name of its Pod before each line")
	f.Int64Var(&l.tail, "tail", -1, "only so many of the last lines; 10 by default with a selector")
	f.Int64Var(&l.limitBytes, "limit-bytes", 0, "only so many bytes")
	f.DurationVar(&l.since, "since", 0, "only what is younger")
	f.StringVar(&l.sinceTime, "since-time", "", "only what is younger than a date (RFC3339)")
	cmd.ValidArgsFunction = g.completePods
	return cmd
}

func (l *logsCommand) run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0 && l.selector == "":
		return usagef("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command")
	case len(args) > 1:
		return usagef("want one Pod or TYPE/NAME, got %q", args)
	case len(args) == 1 && l.selector != "":
		return usagef("only a selector (-l) or a POD name is allowed")
	}
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	pods, err := l.pods(ctx, c, args)
	if err != nil {
		return err
	}
	if l.selector != "" && l.tail < 0 {
		l.tail = 10
	}
	if !l.follow || len(pods) == 1 {
		var errs []error
		for _, pod := range pods {
			errs = append(errs, l.print(ctx, c, pod))
		}
		return errors.Join(errs...)
	}
	if len(pods) > maxFollowed {
		return fmt.Errorf("you are attempting to follow %d log streams, but maximum allowed concurrency is %d", len(pods), maxFollowed)
	}
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	for i, pod := range pods {
		wg.Go(func() { errs[i] = l.print(ctx, c, pod) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pods returns the Pods whose logs are asked for.
func (l *logsCommand) pods(ctx context.Context, c *client.Client, args []string) ([]*corev1.Pod, error) {
	if l.selector != "" {
		return l.podsOf(ctx, c, l.selector)
	}
	kind, name := registry.Pods, args[0]
	if typ, rest, ok := strings.Cut(args[0], "/"); ok {
		var err error
		if kind, err = kindNamed(typ); err != nil {
			return nil, err
		}
		name = rest
	}
	if kind != registry.Pods && kind != registry.Services {
		return nil, fmt.Errorf("cannot get the logs from *v1.%s: only those of a Pod, or of a Service's Pods", kind.Kind)
	}
	obj, err := c.Get(ctx, l.key(kind, name))
	if err != nil {
		return nil, err
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		return []*corev1.Pod{pod}, nil
	}
	selector := obj.(*corev1.Service).Spec.Selector
	if len(selector) == 0 {
		return nil, fmt.Errorf("invalid service '%s': Service is defined without a selector", name)
	}
	pods, err := l.podsOf(ctx, c, labels.SelectorFromSet(selector).String())
	switch {
	case err != nil:
		return nil, err
	case len(pods) == 0:
		return nil, fmt.Errorf("service/%s has no Pods", name)
	case len(pods) > 1:
		fmt.Fprintf(l.env.Stderr, "Found %d pods, using pod/%s\n", len(pods), pods[0].Name)
	}
	return pods[:1], nil
}

func (l *logsCommand) podsOf(ctx context.Context, c *client.Client, selector string) ([]*corev1.Pod, error) {
	list, err := c.List(ctx, registry.Pods, l.requestNamespace(), client.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		fmt.Fprintf(l.env.Stderr, "No resources found in %s namespace.\n", l.requestNamespace())
	}
	var pods []*corev1.Pod
	for _, obj := range list.Items {
		pods = append(pods, obj.(*corev1.Pod))
	}
	return pods, nil
}

// print prints the log of a Pod, line by line.
func (l *logsCommand) print(ctx context.Context, c *client.Client, pod *corev1.Pod) error {
	resp, err := c.Do(ctx, http.MethodGet, client.Path(registry.KeyOf(pod))+"/log", l.query(), "*/*", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	prefix := ""
	if l.prefix {
		prefix = fmt.Sprintf("[pod/%s/%s] ", pod.Name, pod.Spec.Containers[0].Name)
	}
	r := bufio.NewReader(resp.Body)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			if err := l.write(prefix + line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("read the log of pod/%s: %w", pod.Name, err)
		}
	}
}

func (l *logsCommand) query() url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{"follow": l.follow, "previous": l.previous, "timestamps": l.timestamps} {
		if on {
			q.Set(name, "true")
		}
	}
	if l.container != "" {
		q.Set("container", l.container)
	}
	if l.tail >= 0 {
		q.Set("tailLines", strconv.FormatInt(l.tail, 10))
	}
	if l.limitBytes != 0 {
		q.Set("limitBytes", strconv.FormatInt(l.limitBytes, 10))
	}
	if l.since != 0 {
		q.Set("sinceSeconds", strconv.FormatInt(int64(l.since.Round(time.Second)/time.Second), 10))
	}
	if l.sinceTime != "" {
		q.Set("sinceTime", l.sinceTime)
	}
	return q
}

// write writes a line.
func (l *logsCommand) write(line string) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	_, err := io.WriteString(l.env.Stdout, line)
	return err
}
