package cli

import (
	"context"
	"io"
	"net/url"
)

// getRaw prints what the API answers at a path.
func (q *query) getRaw(ctx context.Context, args []string) error {
	switch {
	case len(args) > 0 || len(q.picking.files.paths) > 0:
		return usagef("arguments may not be passed when --raw is specified")
	case q.watch || q.picking.selects():
		return usagef("--raw may not be specified with other flags that filter the server request or alter the output")
	case q.print.output != "":
		return usagef("--raw and --output are mutually exclusive")
	}
	if _, err := url.ParseRequestURI(q.raw); err != nil {
		return usagef("--raw must be a valid URL path: %v", err)
	}
	if q.raw[0] != '/' {
		return usagef("--raw must be a URL path, not %q: --server names the daemon", q.raw)
	}
	c, err := q.client()
	if err != nil {
		return err
	}
	defer c.Close()
	resp, err := c.Raw(ctx, q.raw)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(q.env.Stdout, resp.Body)
	return err
}
