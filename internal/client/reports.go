package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"usher/internal/api"
)

// A ReportStream says to a daemon what goes on without it, and is asked by it.
type ReportStream struct {
	body    *io.PipeWriter
	reports *json.Encoder
	resp    *http.Response
	answers *json.Decoder
}

// Report begins a stream of reports, until ctx is done. The caller must Close
// it. The daemon's first answer is to this.
func (c *Client) Report(ctx context.Context, session string) (*ReportStream, error) {
	out, in := io.Pipe()
	// The transport waits for the body to end, also when ctx is done.
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	s := &ReportStream{body: in, reports: json.NewEncoder(in)}
	var err error
	hello := make(chan error, 1)
	go func() { hello <- s.Send(api.ConnectionReport{Session: session}) }()
	s.resp, err = c.do(ctx, request{method: http.MethodPost, path: ownPath + "/connections", contentType: mediaJSON, stream: out})
	if err != nil {
		in.CloseWithError(err)
		<-hello
		return nil, err
	}
	<-hello // it was answered
	s.answers = json.NewDecoder(s.resp.Body)
	return s, nil
}

// Send sends a report.
func (s *ReportStream) Send(r api.ConnectionReport) error { return s.reports.Encode(r) }

// Next waits for an answer or a question.
func (s *ReportStream) Next() (a api.ReportAnswer, err error) {
	err = s.answers.Decode(&a)
	return a, err
}

// Close ends the stream.
func (s *ReportStream) Close() {
	s.body.Close()
	s.resp.Body.Close()
}
