package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"usher/internal/api"
	"usher/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fake is the API over a Store without a registry behind it: it reads as the
// real one does, and its writes are as simple as the commands need them.
type fake struct {
	*registry.Store
	server string // as --server wants it
	read   http.Handler

	status    api.Status
	ejections []api.Ejection

	mu       sync.Mutex // guards the following
	revision int64
	requests []string // the writes, as "PUT /path"
	dry      bool     // the request is a dry run
	warnings []string // that writes are answered with
	intrude  func()   // called once, before the next write
	graces   []string // the grace periods of deletions, "-" for none
	slow     []registry.Key
	watches  int
	watching chan struct{} // has an element when watches has changed
}

// linger lets objects be there after their deletion, until they are removed.
func (f *fake) linger(keys ...registry.Key) { f.slow = append(f.slow, keys...) }

// waitWatches waits until n watches have been asked for.
func (f *fake) waitWatches(t *testing.T, n int) {
	t.Helper()
	timeout := time.After(40 * time.Second)
	for {
		f.mu.Lock()
		done := f.watches >= n
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-f.watching:
		case <-timeout:
			t.Fatalf("there are no %d watches", n)
		}
	}
}

// newFake serves a Store with the objects of the manifests.
func newFake(t *testing.T, manifests string) *fake {
	t.Helper()
	f := &fake{Store: registry.NewStore(), revision: 1, watching: make(chan struct{}, 1)}
	f.status = api.Status{UsherVersion: "v1", NodeName: "node-1", PID: 7}
	f.read = api.New(api.Options{Store: f.Store, Status: func() api.Status {
		return f.status
	}, Connections: someConnections, Ejections: func() []api.Ejection { return f.ejections }}).Handler()
	f.Replace(1, nil)
	documents, err := parseDocuments([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range documents {
		kind, _, err := identify("the test", doc)
		if err != nil {
			t.Fatal(err)
		}
		obj, err := registry.DecodeStrict(kind, doc.data)
		if err != nil {
			t.Fatal(err)
		}
		f.put(obj)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: f}}
	server.Start()
	t.Cleanup(server.Close)
	f.server = "unix:" + path
	return f
}

// put writes an object that is 2 days and 2 hours old.
func (f *fake) put(obj registry.Object) registry.Object {
	was := obj.GetResourceVersion()
	f.revision++
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprint("uid-", f.revision)))
	}
	if created := obj.GetCreationTimestamp(); created.IsZero() {
		obj.SetCreationTimestamp(metav1.Time{Time: time.Now().Add(-50 * time.Hour)})
	}
	obj.SetResourceVersion(strconv.FormatInt(f.revision, 10))
	registry.SetDefaults(obj)
	if svc, ok := obj.(*corev1.Service); ok && svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "10.96.1.1", []string{"10.96.1.1"}
	}
	if f.dry {
		obj.SetResourceVersion(was)
		return obj
	}
	f.Apply(f.revision, []registry.Write{{Key: registry.KeyOf(obj), Object: obj}})
	return obj
}

// remove deletes an object.
func (f *fake) remove(key registry.Key) {
	if f.dry {
		return
	}
	f.revision++
	f.Apply(f.revision, []registry.Write{{Key: key}})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("watch") {
		f.mu.Lock()
		f.watches++
		f.mu.Unlock()
		select {
		case f.watching <- struct{}{}:
		default:
		}
	}
	if r.Method == http.MethodGet {
		f.read.ServeHTTP(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	if intrude := f.intrude; intrude != nil {
		f.intrude = nil
		intrude()
	}
	body, _ := io.ReadAll(r.Body)
	f.dry = r.URL.Query().Get("dryRun") == "All" || bytes.Contains(body, []byte(`"dryRun":["All"]`))
	for _, text := range f.warnings {
		w.Header().Add("Warning", fmt.Sprintf("299 - %q", text))
	}
	existed := r.Method != http.MethodPatch || f.Snapshot().Get(parsePath(strings.TrimSuffix(r.URL.Path, "/status"))) != nil
	answer, err := f.write(r.Method, r.URL.Path, r.Header.Get("Content-Type"), body)
	if err == nil && !existed {
		w.WriteHeader(http.StatusCreated)
	}
	if err != nil {
		status := err.Status()
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		w.WriteHeader(int(status.Code))
		answer = status
	}
	json.NewEncoder(w).Encode(answer)
}

// write serves POST, PUT, PATCH and DELETE.
func (f *fake) write(method, path, media string, body []byte) (any, *apierrors.StatusError) {
	path, status := strings.CutSuffix(path, "/status")
	key := parsePath(path)
	old := f.Snapshot().Get(key)
	if method == http.MethodPost {
		obj, err := registry.DecodeStrict(key.Kind, body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if f.Snapshot().Get(registry.KeyOf(obj)) != nil {
			return nil, apierrors.NewAlreadyExists(key.Kind.GroupResource(), obj.GetName())
		}
		return f.put(obj), nil
	}
	if method == http.MethodPatch && types.PatchType(media) == types.ApplyYAMLPatchType {
		return f.apply(key, old, body, status)
	}
	if old == nil {
		return nil, apierrors.NewNotFound(key.Kind.GroupResource(), key.Name)
	}
	if method == http.MethodPatch {
		return f.patch(old, types.PatchType(media), body, status)
	}
	if method == http.MethodDelete {
		grace := "-"
		var opts metav1.DeleteOptions
		if json.Unmarshal(body, &opts) == nil && opts.GracePeriodSeconds != nil {
			grace = strconv.FormatInt(*opts.GracePeriodSeconds, 10)
		}
		f.graces = append(f.graces, grace)
		if !slices.Contains(f.slow, key) {
			f.remove(key)
		}
		return metav1.Status{Status: metav1.StatusSuccess}, nil
	}
	obj, err := registry.DecodeStrict(key.Kind, body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return f.replace(obj, old, status)
}

// apply serves PATCH, and takes what is applied for all that there is to be.
func (f *fake) apply(key registry.Key, old registry.Object, body []byte, status bool) (any, *apierrors.StatusError) {
	obj, err := registry.DecodeStrict(key.Kind, body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj.SetNamespace(key.Namespace)
	if old == nil {
		return f.put(obj), nil
	}
	return f.replace(obj, old, status)
}

// patch serves PATCH of the other types.
func (f *fake) patch(old registry.Object, typ types.PatchType, body []byte, status bool) (any, *apierrors.StatusError) {
	kind := registry.KindOf(old)
	data, err := json.Marshal(old)
	switch {
	case err != nil:
	case typ == types.JSONPatchType:
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(body); err == nil {
			data, err = patch.Apply(data)
		}
	case typ == types.MergePatchType:
		data, err = jsonpatch.MergePatch(data, body)
	default:
		data, err = strategicpatch.StrategicMergePatch(data, body, kind.New())
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj, err := registry.DecodeStrict(kind, data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := check(obj); len(errs) > 0 {
		return nil, apierrors.NewInvalid(kind.GroupKind(), obj.GetName(), errs)
	}
	return f.replace(obj, old, status)
}

// parsePath is the reverse of client.Path.
func parsePath(path string) registry.Key {
	var key registry.Key
	_, path, _ = strings.Cut(path, "/v1/")
	part := strings.Split(path, "/")
	if part[0] == "namespaces" && len(part) > 2 {
		key.Namespace, part = part[1], part[2:]
	}
	if key.Kind, _ = kindNamed(part[0]); len(part) > 1 {
		key.Name = part[1]
	}
	return key
}

// replace serves PUT.
func (f *fake) replace(obj, old registry.Object, status bool) (any, *apierrors.StatusError) {
	if rv := obj.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(registry.KindOf(obj).GroupResource(), obj.GetName(), fmt.Errorf("it has been modified"))
	}
	registry.SetDefaults(obj)
	obj.SetUID(old.GetUID())
	obj.SetResourceVersion(old.GetResourceVersion())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	switch obj := obj.(type) {
	case *corev1.Service:
		was := old.(*corev1.Service)
		obj.Spec.ClusterIP, obj.Spec.ClusterIPs = was.Spec.ClusterIP, was.Spec.ClusterIPs
	case *corev1.Pod:
		was := old.(*corev1.Pod).DeepCopy()
		if status {
			was.Status = obj.Status
			*obj = *was
		} else {
			obj.Status = was.Status
		}
	}
	now, _ := json.Marshal(obj)
	before, _ := json.Marshal(old)
	if bytes.Equal(now, before) {
		return old, nil
	}
	return f.put(obj), nil
}

// A result is what became of a command.
type result struct {
	code           int
	stdout, stderr string
}

// usher runs a command against the fake, with input on standard input.
func (f *fake) usher(t *testing.T, input string, args ...string) result {
	t.Helper()
	return usher(t, map[string]string{"USHER_SERVER": f.server}, input, args...)
}

// usher runs a command in an environment.
func usher(t *testing.T, environ map[string]string, input string, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	code := Main(t.Context(), Env{
		Stdin: strings.NewReader(input), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(name string) string { return environ[name] },
	}, args)
	return result{code, stdout.String(), stderr.String()}
}

// start runs a command that goes on until it is stopped.
func (f *fake) start(t *testing.T, args ...string) (out *output, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out = &output{changed: make(chan struct{}, 1)}
	code := make(chan int, 1)
	go func() {
		code <- Main(ctx, Env{
			Stdin: strings.NewReader(""), Stdout: out, Stderr: out,
			Getenv: func(name string) string { return map[string]string{"USHER_SERVER": f.server}[name] },
		}, args)
	}()
	var once sync.Once
	result := 0
	stop = func() int {
		once.Do(func() {
			cancel()
			result = <-code
		})
		return result
	}
	t.Cleanup(func() { stop() })
	return out, stop
}

// An output collects what is written, and tells of it.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until the output is want.
func (o *output) await(t *testing.T, want string) {
	t.Helper()
	timeout := time.After(40 * time.Second)
	for o.String() != want {
		select {
		case <-o.changed:
		case <-timeout:
			t.Fatalf("output %q, want %q", o, want)
		}
	}
}
