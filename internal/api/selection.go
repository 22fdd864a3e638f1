package api

import (
	"fmt"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"usher/registry"
)

// A selection is the part of a Kind's objects that a list, a watch or a
// deletion is about.
type selection struct {
	target
	labels labels.Selector
	fields fields.Selector
}

// parseOptions reads the query of a list or a watch, and checks it in
// Kubernetes' words.
func parseOptions(t target, query url.Values) (selection, metav1.ListOptions, error) {
	var opts metav1.ListOptions
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&query, &opts, nil); err != nil {
		return selection{}, opts, apierrors.NewBadRequest(err.Error())
	}
	var parsed internalversion.ListOptions
	if err := internalversion.Convert_v1_ListOptions_To_internalversion_ListOptions(&opts, &parsed, nil); err != nil {
		return selection{}, opts, apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidateListOptions(&parsed, true); len(errs) > 0 {
		return selection{}, opts, invalidOptions("ListOptions", errs)
	}
	for _, r := range parsed.FieldSelector.Requirements() {
		if _, ok := fieldValue(t.kind.New(), r.Field); !ok {
			return selection{}, opts, apierrors.NewBadRequest(unknownField(t.kind, r.Field))
		}
	}
	return selection{t, parsed.LabelSelector, parsed.FieldSelector}, opts, nil
}

// unknownField says that the objects of k cannot be selected by field, in the
// words that Kubernetes has for the Kind.
func unknownField(k *registry.Kind, field string) string {
	switch k {
	case registry.Services, registry.Pods, registry.Events, registry.Namespaces, registry.Nodes:
		return "field label not supported: " + field
	}
	return fmt.Sprintf("%q is not a known field selector: only %q, %q", field, "metadata.name", "metadata.namespace")
}

// matches reports whether obj belongs to the selection.
func (s selection) matches(obj registry.Object) bool {
	return (s.namespace == "" || s.namespace == obj.GetNamespace()) &&
		s.labels.Matches(labels.Set(obj.GetLabels())) &&
		s.fields.Matches(objectFields{obj})
}

// objects returns the objects of snapshot that belong to the selection.
func (s selection) objects(snapshot *registry.Snapshot) []registry.Object {
	var objects []registry.Object
	for obj := range snapshot.List(s.kind, s.namespace) {
		if s.matches(obj) {
			objects = append(objects, obj)
		}
	}
	return objects
}

// objectFields are the fields of an object for a fields.Selector.
type objectFields struct{ obj registry.Object }

func (f objectFields) Has(field string) bool {
	_, ok := fieldValue(f.obj, field)
	return ok
}

func (f objectFields) Get(field string) string {
	value, _ := fieldValue(f.obj, field)
	return value
}

// fieldValue returns the value of a field by which objects of this Kind can be
// selected. It reports false for any other field.
func fieldValue(obj registry.Object, field string) (string, bool) {
	switch field {
	case "metadata.name":
		return obj.GetName(), true
	case "metadata.namespace":
		return obj.GetNamespace(), true
	}
	switch obj := obj.(type) {
	case *corev1.Service:
		switch field {
		case "spec.clusterIP":
			return obj.Spec.ClusterIP, true
		case "spec.type":
			return string(obj.Spec.Type), true
		}
	case *corev1.Pod:
		return podField(obj, field)
	case *corev1.Event:
		return eventField(obj, field)
	case *corev1.Namespace:
		return string(obj.Status.Phase), field == "status.phase"
	case *corev1.Node:
		return strconv.FormatBool(obj.Spec.Unschedulable), field == "spec.unschedulable"
	}
	return "", false
}

func podField(pod *corev1.Pod, field string) (string, bool) {
	switch field {
	case "spec.nodeName":
		return pod.Spec.NodeName, true
	case "spec.restartPolicy":
		return string(pod.Spec.RestartPolicy), true
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, true
	case "status.phase":
		return string(pod.Status.Phase), true
	case "status.podIP":
		return pod.Status.PodIP, true
	}
	return "", false
}

func eventField(ev *corev1.Event, field string) (string, bool) {
	switch field {
	case "involvedObject.kind":
		return ev.InvolvedObject.Kind, true
	case "involvedObject.namespace":
		return ev.InvolvedObject.Namespace, true
	case "involvedObject.name":
		return ev.InvolvedObject.Name, true
	case "involvedObject.uid":
		return string(ev.InvolvedObject.UID), true
	case "involvedObject.apiVersion":
		return ev.InvolvedObject.APIVersion, true
	case "involvedObject.resourceVersion":
		return ev.InvolvedObject.ResourceVersion, true
	case "involvedObject.fieldPath":
		return ev.InvolvedObject.FieldPath, true
	case "reason":
		return ev.Reason, true
	case "reportingComponent":
		return ev.ReportingController, true
	case "source":
		return ev.Source.Component, true
	case "type":
		return ev.Type, true
	}
	return "", false
}
