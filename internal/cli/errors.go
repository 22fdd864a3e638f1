package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Exit codes. exec has that of its program, and run that of a process.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 4
)

// An exitCode ends the process without a word. It is not wrapped, nor joined
// with errors that have something to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// report prints an error and returns the exit code it means.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	exit, silent := err.(exitCode)
	switch {
	case err == nil:
		return exitOK
	case silent:
		return int(exit)
	case errors.As(err, new(usageError)):
		fmt.Fprintf(w, "error: %v\nSee '%s --help' for usage.\n", err, cmd.CommandPath())
		return exitUsage
	}
	code := exitNotFound
	for _, e := range flatten(err) {
		fmt.Fprintln(w, message(e))
		if !apierrors.IsNotFound(e) {
			code = exitError
		}
	}
	return code
}

// flatten returns the errors that err joins.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

// message puts an error into kubectl's words, and adds the next step where
// there is one.
func message(err error) string {
	status, fromServer := errors.AsType[*apierrors.StatusError](err)
	switch m, inManifest := errors.AsType[manifestError](err); {
	case errors.Is(err, context.Canceled):
		return "error: interrupted"
	case !fromServer && inManifest:
		return "error: " + m.err.Error() + m.in()
	case !fromServer:
		return "error: " + err.Error()
	case apierrors.IsInvalid(err):
		return invalidMessage(status.ErrStatus) + m.in()
	}
	text := fmt.Sprintf("Error from server (%s): %s", cmp.Or(status.ErrStatus.Reason, "Unknown"), err)
	if apierrors.IsUnauthorized(err) {
		text += "\n  the daemon's token is in the file \"token\" of its data directory: put it into USHER_TOKEN" +
			"\n  by https, the token of your own daemon on this machine is found"
	}
	return text
}

// invalidMessage lists everything that is wrong with an object, or with a
// request.
func invalidMessage(status metav1.Status) string {
	text := "The request is invalid"
	d := cmp.Or(status.Details, new(metav1.StatusDetails))
	switch {
	case d.Kind != "" || d.Name != "":
		text = fmt.Sprintf("The %s %q is invalid", d.Kind, d.Name)
	case status.Message != "" && len(d.Causes) == 0:
		text += ": " + status.Message
	}
	var lines []string
	for _, c := range d.Causes {
		line := strings.TrimPrefix(c.Field+": ", ": ") + c.Message
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	switch len(lines) {
	case 0:
		return text
	case 1:
		return text + ": " + lines[0]
	}
	return text + ": \n* " + strings.Join(lines, "\n* ")
}

// A manifestError is about an object out of a file.
type manifestError struct {
	verb   string // "applying"
	source string // the file, and the document in it
	err    error
}

func (e manifestError) Error() string {
	return fmt.Sprintf("error when %s %s: %v", e.verb, e.source, e.err)
}

func (e manifestError) Unwrap() error { return e.err }

// in says where the object is, on a line of its own, unless the error does.
func (e manifestError) in() string {
	if e.source == "" || strings.Contains(e.err.Error(), e.source) {
		return ""
	}
	return "\n  in " + e.source
}
