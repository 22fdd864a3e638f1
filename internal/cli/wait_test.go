package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

func TestWait(t *testing.T) {
	f := newFake(t, finance)
	met, timeout := result{0, "pod/p1 condition met\n", ""}, result{1, "", "error: timed out waiting for the condition on pods/p1\n"}
	tests := map[string]result{
		"pod/p1 --for=condition=Ready":                                                 met,
		"pod/p1 --for=condition=ready=TRUE":                                            met,
		"pod/p1 --for=condition=Ready=false --timeout=1ms":                             timeout,
		"pod/p1 --for=condition=Nope --timeout=1ms":                                    timeout,
		"pod/p1 --for=condition=Ready --timeout=0":                                     met,
		"pod/p1 --for=condition=Nope --timeout=0":                                      {1, "", "error: condition not met for pods/p1\n"},
		"pod/p1 --for=delete --timeout=0":                                              {1, "", "error: condition not met for pods/p1\n"},
		"pod/p1 --for=delete --timeout=1ms":                                            timeout,
		"pod/none --for=delete":                                                        {0, "", ""},
		"pod/none --for=delete --timeout=0":                                            {0, "", ""},
		"pod/none --for=condition=Ready":                                               {4, "", "Error from server (NotFound): pods \"none\" not found\n"},
		"pod/none --for=create --timeout=1ms":                                          {1, "", "error: timed out waiting for the condition\n"},
		"pod/none --for=create --timeout=0":                                            {4, "", "Error from server (NotFound): pods \"none\" not found\n"},
		"pod/p1 --for=create":                                                          met,
		"pods -l app=payment --for=create":                                             {0, "pod/p1 condition met\npod/p2 condition met\n", ""},
		"pod/p1 --for=condition=Ready --for=create":                                    {0, strings.Repeat(met.stdout, 2), ""},
		"pod/p1 --for=jsonpath={.status.phase}=Running":                                met,
		"pod/p1 --for=jsonpath=status.phase='Running'":                                 met,
		"pod/p1 --for=jsonpath={.status.phase}":                                        met,
		"pod/p1 --for=jsonpath={.status.phase}=Failed --timeout=1ms":                   timeout,
		"pod/p1 --for=jsonpath={.status.nope} --timeout=1ms":                           timeout,
		`pod/p1 --for=jsonpath={.status.conditions[?(@.type=="Ready")].status}=True`:   met,
		"pod/p1 --for=jsonpath={.spec.containers[0].ports[0].containerPort}=5353":      met,
		"pod/p1 --for=jsonpath={.status}=x":                                            {1, "", "error: jsonpath leads to a nested object or list which is not supported\n"},
		"pod/p1 --for=jsonpath={.status.*}=x":                                          {1, "", "error: given jsonpath expression matches more than one value\n"},
		"pods --all --for=condition=Nope --timeout=1ms":                                {1, "", "error: timed out waiting for the condition on pods/p1\nerror: timed out waiting for the condition on pods/p2\n"},
		"pods -l app=none --for=condition=Ready":                                       {1, "", "error: no matching resources found\n"},
		"pods -l app=none --for=delete":                                                {0, "", ""},
		"pod/p1 --for=condition=Ready -o name":                                         {0, "pod/p1\n", ""},
		"pod/p1 --for=condition=Ready -o jsonpath={.status.podIP}":                     {0, "10.1.0.5", ""},
		"svc --field-selector spec.clusterIP=10.96.111.62 --for=jsonpath={.spec.type}": {0, "service/empty condition met\n", ""},
	}
	for args, want := range tests {
		t.Run(args, func(t *testing.T) {
			got := f.usher(t, "", append([]string{"wait", "-n", "finance"}, strings.Fields(args)...)...)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A condition of an older generation says nothing of this one.
func TestWaitGeneration(t *testing.T) {
	for manifest, met := range map[string]bool{
		"metadata: {generation: 2}\nstatus: {observedGeneration: 1, conditions: [{type: Ready, status: 'True'}]}":                        false,
		"metadata: {generation: 2}\nstatus: {observedGeneration: 2, conditions: [{type: Ready, status: 'True'}]}":                        true,
		"metadata: {generation: 2}\nstatus: {observedGeneration: 2, conditions: [{type: Ready, status: 'True', observedGeneration: 1}]}": false,
		"status: {conditions: [{type: Ready, status: 'True'}]}":                                                                          true,
	} {
		pod, err := registry.DecodeStrict(registry.Pods, []byte(manifest))
		if err != nil {
			t.Fatal(err)
		}
		got, err := condition{kind: hasCondition, name: "Ready", value: "true"}.met(pod)
		if got != met || err != nil {
			t.Errorf("%s: %v, %v, want %v", manifest, got, err, met)
		}
	}
}

// What is not yet so is waited for.
func TestWaitForChanges(t *testing.T) {
	f := newFake(t, finance)
	p2 := registry.Key{Kind: registry.Pods, Namespace: "finance", Name: "p2"}
	setReady := func(status corev1.ConditionStatus) {
		pod := f.Snapshot().Get(p2).DeepCopyObject().(*corev1.Pod)
		pod.Status.Conditions[0].Status = status
		f.put(pod)
	}
	steps := []struct {
		name, args, want string
		change           func()
	}{
		{"a condition", "pod/p2 --for=condition=Ready", "pod/p2 condition met\n", func() {
			setReady(corev1.ConditionUnknown) // which is not it
			setReady(corev1.ConditionTrue)
		}},
		{"one that comes back", "pod/p2 --for=condition=Ready=False -o jsonpath={.status.conditions[0].status}", "False", func() {
			pod := f.Snapshot().Get(p2).DeepCopyObject().(*corev1.Pod)
			f.remove(p2) // what is gone is in no condition
			pod.Status.Conditions[0].Status = corev1.ConditionFalse
			f.put(pod)
		}},
		{"the end", "pod/p2 --for=delete", "pod/p2 condition met\n", func() { f.remove(p2) }},
		{"the beginning", "pod/p3 --for=create --for=jsonpath={.kind}=Pod", "pod/p3 condition met\npod/p3 condition met\n", func() {
			pod := registry.Pods.New().(*corev1.Pod)
			pod.Namespace, pod.Name = "finance", "p3"
			f.put(pod)
		}},
		{"of any", "nodes -l a=b --for=create", "node/n condition met\n", func() {
			node := registry.Nodes.New()
			node.SetName("n")
			node.SetLabels(map[string]string{"a": "b"})
			f.put(node)
		}},
	}
	watches := 0
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			out, stop := f.start(t, append([]string{"wait", "-n", "finance"}, strings.Fields(s.args)...)...)
			watches++
			f.waitWatches(t, watches)
			s.change()
			out.await(t, s.want)
			if code := stop(); code != 0 {
				t.Errorf("exit code %d: %s", code, out)
			}
			f.mu.Lock()
			watches = f.watches
			f.mu.Unlock()
		})
	}
}

func TestWaitInterrupted(t *testing.T) {
	f := newFake(t, finance)
	out, stop := f.start(t, "wait", "-n", "finance", "pod/p1", "--for=delete")
	f.waitWatches(t, 1)
	if code := stop(); code != exitError || out.String() != "error: interrupted\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// Whatever is written behind --for, there is an answer.
func FuzzCondition(f *testing.F) {
	for _, text := range []string{"create", "condition=a=b", "jsonpath={.a}=b", `jsonpath={.a[?(@.b=="c")].d}=e`, "jsonpath=a==b=", "jsonpath={range .items[*]}{.a}{end}"} {
		f.Add(text)
	}
	pod := registry.Pods.New().(*corev1.Pod)
	pod.Status.Conditions = []corev1.PodCondition{{Type: "Ready", Status: "True"}}
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseCondition(text); err == nil {
			c.met(pod)
		}
	})
}
