package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
)

func TestReport(t *testing.T) {
	services := registry.Services.GroupResource()
	notFound := apierrors.NewNotFound(services, "a")
	conflict := apierrors.NewConflict(services, "a", errors.New("it changed"))
	invalid := func(errs ...*field.Error) error {
		return apierrors.NewInvalid(registry.Services.GroupVersionKind.GroupKind(), "a", errs)
	}
	port, name := field.Invalid(field.NewPath("port"), 0, "too small"), field.Required(field.NewPath("name"), "")
	tests := map[string]struct {
		err  error
		code int
		want string
	}{
		"none":            {nil, 0, ""},
		"of a program":    {exitCode(7), 7, ""},
		"usage":           {usagef("no such flag"), 2, "error: no such flag\nSee 'usher --help' for usage.\n"},
		"plain":           {errors.New("it broke"), 1, "error: it broke\n"},
		"not found":       {notFound, 4, "Error from server (NotFound): services \"a\" not found\n"},
		"twice not found": {errors.Join(notFound, nil, notFound), 4, strings.Repeat("Error from server (NotFound): services \"a\" not found\n", 2)},
		"not found and worse": {errors.Join(notFound, errors.Join(errors.New("it broke"))), 1,
			"Error from server (NotFound): services \"a\" not found\nerror: it broke\n"},
		"of a manifest": {manifestError{"applying", `"f" (document 2)`, conflict}, 1,
			"Error from server (Conflict): error when applying \"f\" (document 2): Operation cannot be fulfilled on services \"a\": it changed\n"},
		"of a manifest, ours":        {manifestError{"applying", `"f"`, errors.New("it broke")}, 1, "error: it broke\n  in \"f\"\n"},
		"of a manifest that it says": {manifestError{"applying", `"f"`, errors.New(`"f" broke`)}, 1, "error: \"f\" broke\n"},
		"invalid":                    {invalid(port), 1, "The Service \"a\" is invalid: port: Invalid value: 0: too small\n"},
		"invalid in a manifest": {manifestError{"applying", `"f"`, invalid(port, name, port)}, 1,
			"The Service \"a\" is invalid: \n* port: Invalid value: 0: too small\n* name: Required value\n  in \"f\"\n"},
		"invalid, nobody knows what": {&apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonInvalid, Message: "a patch"}}, 1,
			"The request is invalid: a patch\n"},
		"unauthorized": {apierrors.NewUnauthorized("Unauthorized"), 1,
			"Error from server (Unauthorized): Unauthorized\n  the daemon's token is in the file \"token\" of its data directory: put it into USHER_TOKEN\n" +
				"  by https, the token of your own daemon on this machine is found\n"},
		"no reason":   {&apierrors.StatusError{}, 1, "Error from server (Unknown): \n"},
		"interrupted": {fmt.Errorf("ask unix:/s: %w", context.Canceled), 1, "error: interrupted\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			code := report(&out, &cobra.Command{Use: "usher"}, tt.err)
			if diff := cmp.Diff(tt.want, out.String()); diff != "" || code != tt.code {
				t.Errorf("exit code %d, want %d; text (-want +got):\n%s", code, tt.code, diff)
			}
		})
	}
}
