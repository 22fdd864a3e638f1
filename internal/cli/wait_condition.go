package cli

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"

	"usher/registry"
)

type conditionKind int

const (
	isCreated conditionKind = iota
	isDeleted
	hasCondition
	hasValue
)

// A condition is what an object is waited for to be.
type condition struct {
	kind conditionKind

	name  string             // of a condition of the status
	path  *jsonpath.JSONPath // of a value
	value string             // of either; "" for any at path
}

// parseConditions reads the values of --for.
func parseConditions(texts []string) ([]condition, error) {
	if len(texts) == 0 {
		return nil, usagef("unrecognized condition: %q", texts)
	}
	var all []condition
	for _, text := range texts {
		c, err := parseCondition(text)
		if err != nil {
			return nil, usageError{err}
		}
		all = append(all, c)
	}
	return all, nil
}

func parseCondition(text string) (condition, error) {
	switch strings.ToLower(text) {
	case "create":
		return condition{kind: isCreated}, nil
	case "delete":
		return condition{kind: isDeleted}, nil
	}
	if rest, ok := strings.CutPrefix(text, "condition="); ok {
		name, value, given := strings.Cut(rest, "=")
		if !given {
			value = "true"
		}
		return condition{kind: hasCondition, name: name, value: value}, nil
	}
	if rest, ok := strings.CutPrefix(text, "jsonpath="); ok {
		return parsePathCondition(rest)
	}
	return condition{}, fmt.Errorf("unrecognized condition: %q", text)
}

// parsePathCondition reads {PATH}[=VALUE].
func parsePathCondition(text string) (condition, error) {
	path, rest := cutEqual(text)
	if path == "" {
		return condition{}, errors.New("jsonpath expression cannot be empty")
	}
	c := condition{kind: hasValue}
	var err error
	if c.path, err = relaxedPath("wait", path); err != nil || rest == nil {
		return c, err
	}
	value, more := cutEqual(*rest)
	if more != nil {
		return c, errors.New("jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'")
	}
	if c.value = strings.Trim(value, `'"`); c.value == "" {
		return c, errors.New("jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3")
	}
	return c, nil
}

// cutEqual cuts text at its first "=", if it has one: "==" belongs to a path.
func cutEqual(text string) (before string, after *string) {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '=':
		case strings.HasPrefix(text[i:], "=="):
			i++
		default:
			rest := text[i+1:]
			return text[:i], &rest
		}
	}
	return text, nil
}

// met reports whether an object that is there is as it should be.
func (c condition) met(obj registry.Object) (bool, error) {
	switch c.kind {
	case isCreated:
		return true, nil
	case isDeleted:
		return false, nil
	}
	value, err := generic(obj)
	if err != nil {
		return false, err
	}
	if c.kind == hasCondition {
		return c.inStatus(value.(map[string]any))
	}
	return c.atPath(value)
}

// inStatus reports whether the status of an object has the condition. One that
// was observed of an older generation does not count.
func (c condition) inStatus(obj map[string]any) (bool, error) {
	conditions, _, err := unstructured.NestedSlice(obj, "status", "conditions")
	if err != nil {
		return false, err
	}
	for _, item := range conditions {
		cond, _ := item.(map[string]any)
		name, _, _ := unstructured.NestedString(cond, "type")
		status, found, _ := unstructured.NestedString(cond, "status")
		if !found || !strings.EqualFold(name, c.name) {
			continue
		}
		observed, known, _ := unstructured.NestedInt64(cond, "observedGeneration")
		if !known {
			observed, known, _ = unstructured.NestedInt64(obj, "status", "observedGeneration")
		}
		generation, counted, _ := unstructured.NestedInt64(obj, "metadata", "generation")
		if known && counted && observed < generation {
			return false, nil
		}
		return strings.EqualFold(status, c.value), nil
	}
	return false, nil
}

// atPath reports whether an object has the value.
func (c condition) atPath(obj any) (bool, error) {
	found, err := c.path.FindResults(obj)
	switch {
	case err != nil || len(found) == 0 || len(found[0]) == 0:
		return false, err
	case len(found) > 1:
		return false, errors.New("given jsonpath expression matches more than one list")
	case len(found[0]) > 1:
		return false, errors.New("given jsonpath expression matches more than one value")
	case c.value == "":
		return true, nil
	}
	switch v := found[0][0].Interface().(type) {
	case map[string]any, []any:
		return false, errors.New("jsonpath leads to a nested object or list which is not supported")
	default:
		return strings.TrimSpace(fmt.Sprint(v)) == strings.TrimSpace(c.value), nil
	}
}
