package cli

import (
	"fmt"
	"slices"
	"strings"

	"usher/registry"
)

// allKinds are those that "all" means.
var allKinds = []*registry.Kind{registry.Pods, registry.Services, registry.EndpointSlices}

// kindNamed returns the Kind that a user calls name: its plural, its singular
// or a short name, the former two also with their group and version, as in
// endpointslices.discovery.k8s.io and endpointslices.v1.discovery.k8s.io.
func kindNamed(name string) (*registry.Kind, error) {
	lower := strings.ToLower(name)
	for _, k := range registry.Kinds {
		if slices.Contains(k.ShortNames, lower) {
			return k, nil
		}
		for _, n := range []string{k.Resource, k.Singular} {
			if lower == n || lower == n+"."+k.Version+"."+k.Group || k.Group != "" && lower == n+"."+k.Group {
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("the server doesn't have a resource type %q", name)
}

// typeName names a Kind in front of a name, with its group if it has one.
func typeName(k *registry.Kind) string {
	if k.Group != "" {
		return k.Singular + "." + k.Group
	}
	return k.Singular
}

// A target is what a command's arguments ask for: objects of a Kind by name,
// or without names the whole collection.
type target struct {
	kind       *registry.Kind
	names      []string
	namespaces []string // of the names, if files have them; otherwise all are in that of the request
}

// keysOf returns the keys of the objects that a target names.
func (g *globals) keysOf(t target) []registry.Key {
	var keys []registry.Key
	for i, name := range t.names {
		key := g.key(t.kind, name)
		if len(t.namespaces) > 0 {
			key.Namespace = t.namespaces[i]
		}
		keys = append(keys, key)
	}
	return keys
}

// targetsOf returns the objects under keys as targets, one for each Kind.
func targetsOf(keys []registry.Key) []target {
	var targets []target
	for _, key := range keys {
		i := slices.IndexFunc(targets, func(t target) bool { return t.kind == key.Kind })
		if i < 0 {
			i = len(targets)
			targets = append(targets, target{kind: key.Kind})
		}
		targets[i].names = append(targets[i].names, key.Name)
		targets[i].namespaces = append(targets[i].namespaces, key.Namespace)
	}
	return targets
}

// parseTargets reads arguments as kubectl does: TYPE[,TYPE…] [NAME…], or
// TYPE/NAME….
func parseTargets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, usagef("you must specify the type of resource, as in: services, pods, endpointslices")
	}
	if slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, "/") }) {
		return parseSlashed(args)
	}
	if slices.Contains(args[1:], "") {
		return nil, usagef("resource name may not be empty")
	}
	var targets []target
	for name := range strings.SplitSeq(args[0], ",") {
		if name == "all" {
			if len(args) > 1 {
				return nil, usagef("%q is several types: a name needs one", name)
			}
			for _, k := range allKinds {
				targets = append(targets, target{kind: k})
			}
			continue
		}
		k, err := kindNamed(name)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target{kind: k, names: args[1:]})
	}
	return targets, nil
}

func parseSlashed(args []string) ([]target, error) {
	var targets []target
	for _, arg := range args {
		kind, name, ok := strings.Cut(arg, "/")
		switch {
		case !ok:
			return nil, usagef("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (got %q)", arg)
		case kind == "" || name == "" || strings.Contains(name, "/"):
			return nil, usagef("arguments in resource/name form must have a single resource and name (got %q)", arg)
		}
		k, err := kindNamed(kind)
		if err != nil {
			return nil, err
		}
		if n := len(targets); n > 0 && targets[n-1].kind == k {
			targets[n-1].names = append(targets[n-1].names, name)
			continue
		}
		targets = append(targets, target{kind: k, names: []string{name}})
	}
	return targets, nil
}

// hasNames reports whether the targets are objects by name. They all are, or
// none is.
func hasNames(targets []target) bool { return len(targets[0].names) > 0 }
