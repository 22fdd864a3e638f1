//go:build !linux

package main

import "os/exec"

// enterNamespace does nothing: there are no namespaces.
func enterNamespace() {}

// startPowerless starts a process: there are no capabilities.
func startPowerless(cmd *exec.Cmd) error { return cmd.Start() }
