//go:build !linux

package netenv

import (
	"errors"
	"fmt"
)

// Exec needs Linux. The error wraps errors.ErrUnsupported.
func Exec(Options) (code int, err error) {
	return 1, fmt.Errorf("run a program with a resolv.conf of its own: there are no mount namespaces here: %w", errors.ErrUnsupported)
}

// Stage2Command is the hidden command of Stage2, which is never called here.
const Stage2Command = "exec-stage2"

// Stage2 is never called: Exec does not start it.
func Stage2([]string) (code int) { return 1 }

// Probe needs Linux. The error wraps errors.ErrUnsupported.
func Probe() error {
	_, err := Exec(Options{})
	return err
}
