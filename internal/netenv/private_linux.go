package netenv

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/sockets"
	"usher/internal/vip"
)

// isolate gives stage 2 a network namespace of its own, too. It stays as the
// program's parent then, and lends the namespace's sockets to the daemon.
func isolate(attr *syscall.SysProcAttr, privileged bool) {
	attr.Cloneflags |= unix.CLONE_NEWNET
	attr.AmbientCaps = append(attr.AmbientCaps, unix.CAP_NET_ADMIN)
	// What the terminal stops and interrupts is the program: it is in the process
	// group of stage 1, and stage 2 is not.
	attr.Setpgid = true
	if privileged {
		attr.Cloneflags &^= unix.CLONE_NEWUSER
		attr.UidMappings, attr.GidMappings, attr.AmbientCaps = nil, nil, nil
	}
}

// serve is stage 2 of a private network namespace: it starts the program, lends
// sockets for as long as that runs, and returns its exit code. started is called
// when it runs.
func (p *plan) serve(started func()) (code int, err error) {
	runtime.LockOSThread() // never undone: capabilities, and signals at the end of a parent, belong to a thread
	if err := p.mount(); err != nil {
		return exitError, setUpError{err}
	}
	if err := p.Private.connect(); err != nil {
		return exitError, err
	}
	if !p.Privileged {
		if err := dropCapabilities(); err != nil {
			return exitError, setUpError{err}
		}
	}
	if err := p.dieWithParent(); err != nil {
		return exitError, setUpError{err}
	}
	return p.start(started)
}

// start runs the program in the process group of stage 1.
func (p *plan) start(started func()) (code int, err error) {
	cmd := &exec.Cmd{
		Path: p.Program, Args: p.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pgid: p.Group, Pdeathsig: syscall.SIGKILL},
	}
	signals := NotifyForwarded()
	if err := cmd.Start(); err != nil {
		return exitError, fmt.Errorf("exec %s: %w", p.Program, errors.Unwrap(err))
	}
	started()
	var wg sync.WaitGroup
	wg.Go(func() { Forward(signals, cmd.Process) })
	_ = cmd.Wait() // its result is in ProcessState
	signal.Stop(signals)
	close(signals)
	wg.Wait()
	return exitCodeOf(cmd), nil
}

// Times of the connection to the daemon.
const (
	showTimeout  = 10 * time.Second      // for it to listen for every Service
	minReconnect = 50 * time.Millisecond // after it has ended
	maxReconnect = time.Second
)

// connect makes the network, and has the daemon listen in it.
func (n *Private) connect() error {
	view, err := vip.AnyIP(n.CIDRs...)
	if err != nil {
		return setUpError{err}
	}
	// It goes with the namespace. The program may open every port, as in a Pod
	// (containerd's enable_unprivileged_ports), but where /proc is read-only.
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
	loan, err := n.offer(view)
	if err != nil {
		return fmt.Errorf("offer the sockets of a network namespace to the daemon: %v", err) // a file that is not there is not the program
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	say := sync.OnceFunc(func() { close(ready) })
	go func() {
		ended <- loan.Serve(say)
		n.lendOn(view)
	}()
	select {
	case <-ready:
		return nil
	case err := <-ended:
		return fmt.Errorf("the daemon does not listen in the network namespace (its log says why): %w", err)
	case <-time.After(showTimeout):
		return errors.New("the daemon does not listen in the network namespace: it has not answered in time")
	}
}

// lendOn offers the sockets again whenever the daemon has ended, for as long as
// this process lasts.
func (n *Private) lendOn(view *vip.View) {
	for wait := minReconnect; ; wait = min(2*wait, maxReconnect) {
		time.Sleep(wait)
		if loan, err := n.offer(view); err == nil {
			wait = minReconnect
			_ = loan.Serve(func() {}) // until the daemon ends once more
		}
	}
}

func (n *Private) offer(view *vip.View) (*sockets.Loan, error) {
	target, err := url.Parse(n.Target)
	if err != nil {
		return nil, err
	}
	query := target.Query()
	query.Set("netns", strconv.FormatUint(view.NetNS(), 10))
	target.RawQuery = query.Encode()
	return sockets.Offer(n.Socket, target)
}
