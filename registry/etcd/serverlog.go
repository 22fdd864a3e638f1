package etcd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// readyLine is what the child writes into its log when it takes writes.
const readyLine = `{"level":"INFO","msg":"ready"}`

// newServerLog returns the log of etcd in the child: a line of JSON an entry.
func newServerLog(w zapcore.WriteSyncer, level zapcore.LevelEnabler) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		MessageKey: "msg", LevelKey: "level",
		EncodeLevel: zapcore.CapitalLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})
	return zap.New(quietCore{zapcore.NewCore(encoder, zapcore.Lock(w), level)})
}

// A quietCore leaves out what etcd says at every start and what is no news
// about a server of one member on a unix socket.
type quietCore struct{ zapcore.Core }

func (c quietCore) With(fields []zapcore.Field) zapcore.Core {
	return quietCore{c.Core.With(fields)}
}

func (c quietCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	// The first election of a new registry may be due before its one member is
	// noted as such; it is held a moment later.
	if strings.HasSuffix(e.Message, " since there are still pending configuration changes to apply") {
		return checked
	}
	switch e.Message {
	case "Running http and grpc server on single port. This is not recommended for production.", // nobody speaks HTTP to it
		"simple token is not cryptographically signed", // there are no users
		// The version of the schema is known after the first snapshot of the log.
		"Failed to detect schema version",
		"failed to update storage version",
		"Failed to detect storage schema version. Please wait till wal snapshot before upgrading cluster.":
		return checked
	}
	return c.Core.Check(e, checked)
}

// relay reads the child's log to its end and logs it. It calls ready at the
// readyLine.
func relay(r io.Reader, log *slog.Logger, ready func()) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	inTrace := false
	for lines.Scan() {
		var fields map[string]any
		if err := json.Unmarshal(lines.Bytes(), &fields); err != nil || fields == nil {
			// An error or a panic. One line says what; the rest is its trace.
			level := slog.LevelError
			if inTrace {
				level = slog.LevelDebug
			}
			log.Log(context.Background(), level, "etcd: "+lines.Text())
			inTrace = true
			continue
		}
		inTrace = false
		if lines.Text() == readyLine {
			ready()
			continue
		}
		logEntry(log, fields)
	}
	io.Copy(io.Discard, r) // after a line too long to read
}

// logEntry logs one entry of etcd's log.
func logEntry(log *slog.Logger, fields map[string]any) {
	level := slog.LevelError
	if fields["level"] == "WARN" {
		level = slog.LevelWarn
	}
	msg := fmt.Sprintf("etcd: %v", fields["msg"])
	delete(fields, "level")
	delete(fields, "msg")
	attrs := make([]any, 0, 2*len(fields))
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		attrs = append(attrs, k, fields[k])
	}
	log.Log(context.Background(), level, msg, attrs...)
}
