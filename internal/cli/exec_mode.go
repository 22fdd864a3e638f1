package cli

import (
	"errors"
	"fmt"
	"strings"

	"usher/internal/api"
	"usher/internal/direct"
	"usher/internal/netenv"
)

// The modes of exec.
const (
	modeAuto    = "auto"    // the first that works of direct, host and private
	modeDirect  = "direct"  // connections are made to backends
	modeProxy   = "proxy"   // connections are made to the daemon's proxy
	modePrivate = "private" // in a network of its own
	modeHost    = "host"    // with a resolv.conf of its own, where the ClusterIPs are visible
)

var modes = []string{modeAuto, modeDirect, modeProxy, modePrivate, modeHost}

// chooseMode returns the mode that auto stands for here, and why. Private is the
// last: whether that works is not known then.
func (g *globals) chooseMode(status *api.Status) (mode, why string) {
	err := g.lacks(modeDirect, status)
	if err == nil {
		return modeDirect, straight
	}
	why = cannotTranslate(err)
	if g.lacks(modeHost, status) == nil {
		return modeHost, why + "; the ClusterIPs are visible here"
	}
	return modePrivate, why + "; there is no network but the Services"
}

// lacks returns why a mode, other than auto, does not work here, or nil.
func (g *globals) lacks(mode string, status *api.Status) error {
	switch mode {
	case modePrivate:
		return g.isolates()
	case modeHost:
		if _, err := visibleNameserver(status); err != nil {
			return err
		}
		return netenv.Probe()
	}
	return translates(status)
}

// straight is why mode direct is taken, and cannotTranslate why it is not.
const straight = "connections go straight to backends"

func cannotTranslate(err error) string {
	return "connections cannot be translated here: " + firstLine(err)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// isolates returns why mode private does not work here, or nil.
func (g *globals) isolates() error {
	if !strings.HasPrefix(g.address(), "unix:") {
		return errors.New("the daemon is asked by its control port, and takes sockets over its unix socket alone")
	}
	if err := probe(); errors.Is(err, direct.ErrNested) {
		return nested(err)
	}
	return netenv.Probe()
}

// nested adds to direct.ErrNested what to do.
func nested(err error) error {
	return fmt.Errorf("%w\n  under usher exec, programs see Services as they are: run this one without another usher exec", err)
}
