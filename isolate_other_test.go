//go:build !linux

package main

// enterNamespace does nothing: there are no namespaces.
func enterNamespace() {}
