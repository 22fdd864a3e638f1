package cli

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// sortByPath sorts items by what they have at a path, those that have nothing
// there first. value returns an item as JSON has it.
func sortByPath[T any](items []T, path string, value func(T) (any, error)) error {
	if len(items) == 0 || path == "" {
		return nil
	}
	parsed, err := relaxedPath("sorting", path)
	if err != nil {
		return err
	}
	type keyed struct {
		item T
		key  any // nil without
	}
	found := false
	var sorted []keyed
	for _, item := range items {
		v, err := value(item)
		if err != nil {
			return err
		}
		results, err := parsed.FindResults(v)
		if err != nil {
			return err
		}
		k := keyed{item: item}
		if len(results) > 0 && len(results[0]) > 0 {
			found, k.key = true, results[0][0].Interface()
		}
		sorted = append(sorted, k)
	}
	if !found {
		return fmt.Errorf("couldn't find any field with path %q in the list of objects", path)
	}
	slices.SortStableFunc(sorted, func(a, b keyed) int {
		order, e := compareValues(a.key, b.key)
		if err == nil {
			err = e
		}
		return order
	})
	for i, k := range sorted {
		items[i] = k.item
	}
	return err
}

// compareValues orders two values of a field: numbers, strings, and strings
// that are quantities.
func compareValues(a, b any) (int, error) {
	switch {
	case a == nil && b == nil:
		return 0, nil
	case a == nil:
		return -1, nil
	case b == nil:
		return 1, nil
	}
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y), nil
		}
	case float64:
		if y, ok := b.(float64); ok {
			return cmp.Compare(x, y), nil
		}
	case string:
		if y, ok := b.(string); ok {
			return compareText(x, y), nil
		}
	case []any:
		if y, ok := b.([]any); ok {
			return compareLists(x, y)
		}
	}
	return 0, fmt.Errorf("unsortable type: %T", a)
}

func compareText(a, b string) int {
	x, errX := resource.ParseQuantity(a)
	y, errY := resource.ParseQuantity(b)
	if errX == nil && errY == nil {
		return x.Cmp(y)
	}
	return cmp.Compare(a, b)
}

func compareLists(a, b []any) (int, error) {
	for i := range min(len(a), len(b)) {
		if order, err := compareValues(a[i], b[i]); order != 0 || err != nil {
			return order, err
		}
	}
	return cmp.Compare(len(a), len(b)), nil
}

// rowObject returns the object that a row of a table is about.
func rowObject(r metav1.TableRow) (any, error) {
	var out any
	err := utiljson.Unmarshal(r.Object.Raw, &out)
	return out, err
}
