package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// runSteps runs commands one after the other, and compares what they print.
func runSteps(t *testing.T, f *fake, steps []step) {
	t.Helper()
	for _, s := range steps {
		got := f.usher(t, "", append([]string{"-n", "finance"}, strings.Fields(s.args)...)...)
		if diff := cmp.Diff(s.want, got, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.args, diff)
		}
	}
}

type step struct {
	args string
	want result
}

func TestLabel(t *testing.T) {
	f := newFake(t, finance)
	runSteps(t, f, []step{
		{"label svc empty a=b c=d", result{0, "service/empty labeled\n", ""}},
		{"label svc empty a=b", result{0, "service/empty not labeled\n", ""}},
		{"label svc empty a=x c=y e=f", result{1, "", "error: 'a' already has a value (b), and --overwrite is false\nerror: 'c' already has a value (d), and --overwrite is false\n"}},
		{"label svc empty a=x --overwrite", result{0, "service/empty labeled\n", ""}},
		{"label svc empty c- nope-", result{0, "label \"nope\" not found.\nservice/empty unlabeled\n", ""}},
		{"label svc empty a- g=", result{0, "service/empty modified\n", ""}},
		{"label svc empty --list", result{0, "g=\n", ""}},
		{"label svc --all --list", result{0, "Listing labels for Service./empty:\n g=\nListing labels for Service./payment-service:\n app=payment\n tier=back\n", ""}},
		{"label svc -l app=payment,tier app-", result{0, "service/payment-service unlabeled\n", ""}},
		{"label svc -l app=payment h=i", result{0, "", ""}},
		{"label pod/p1 svc/none svc/empty h=i", result{4, "pod/p1 labeled\nservice/empty labeled\n", "Error from server (NotFound): services \"none\" not found\n"}},
		{"label svc empty z=z --dry-run=server", result{0, "service/empty labeled (server dry run)\n", ""}},
		{"label svc empty z=z --dry-run=client -o jsonpath={.metadata.labels}", result{0, `{"g":"","h":"i","z":"z"}`, ""}},
		{"label svc empty z- --dry-run=client", result{0, "label \"z\" not found.\nservice/empty not labeled (dry run)\n", ""}},
		{"label svc empty z=z --resource-version=1", result{1, "", "Error from server (Conflict): Operation cannot be fulfilled on services \"empty\": it has been modified\n"}},
		{"label svc --all z=z --resource-version=1", result{2, "", "error: --resource-version may only be used with a single resource\nSee 'usher label --help' for usage.\n"}},
		{"label svc empty h- -o name", result{0, "service/empty\n", ""}},
	})
	labels := f.Snapshot().Service("finance", "empty").Labels
	if diff := cmp.Diff(map[string]string{"g": ""}, labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	// What changes nothing is not sent.
	if n := len(f.requests); n != 10 || slices.ContainsFunc(f.requests, func(r string) bool { return !strings.HasPrefix(r, "PATCH ") }) {
		t.Errorf("%d requests: %q", n, f.requests)
	}
}

func TestAnnotate(t *testing.T) {
	f := newFake(t, finance)
	runSteps(t, f, []step{
		{"annotate svc empty a=b=c d=e", result{0, "service/empty annotated\n", ""}},
		{"annotate svc empty a=x d=y", result{1, "", "error: --overwrite is false but found the following declared annotation(s): 'a' already has a value (b=c); 'd' already has a value (e)\n"}},
		{"annotate svc empty a=x d- nope- --overwrite", result{0, "service/empty annotated\n", ""}},
		{"annotate svc empty --list", result{0, "a=x\n", ""}},
		{"annotate svc none a=b", result{4, "", "Error from server (NotFound): services \"none\" not found\n"}},
	})
	if diff := cmp.Diff(map[string]string{"a": "x"}, f.Snapshot().Service("finance", "empty").Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

// Files say which objects are meant, and nothing else.
func TestLabelFiles(t *testing.T) {
	f := newFake(t, "")
	f.usher(t, service("a", "")+service("b", ""), "apply", "-f", "-")
	got := f.usher(t, service("a", "")+service("b", ""), "label", "-f", "-", "x=y")
	if diff := cmp.Diff(result{0, "service/a labeled\nservice/b labeled\n", ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = f.usher(t, "", "label", "-f", "/nonexistent", "x=y", "--resource-version=1")
	if got.code != exitError || !strings.Contains(got.stderr, "/nonexistent") {
		t.Errorf("no file: %+v", got)
	}
	if svc := f.Snapshot().Service("default", "b"); svc == nil || svc.Labels["x"] != "y" {
		t.Errorf("no label: %v", svc)
	}
}
