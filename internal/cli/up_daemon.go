package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/internal/config"
	"usher/registry/etcd"
)

const (
	// daemonStarts is how long a daemon may take until it is ready.
	daemonStarts = 30 * time.Second

	// daemonRests is the pause before a daemon that has ended is started again.
	daemonRests = time.Second
)

// An ownDaemon is a daemon that usher up has started.
type ownDaemon struct {
	*upCommand
	socket, log string
	stop        context.CancelFunc
	wg          sync.WaitGroup
}

// ensureDaemon starts a daemon of up's own if none runs where one is looked for
// on this machine. It returns nil if one does.
func (u *upCommand) ensureDaemon(ctx context.Context) (*ownDaemon, error) {
	socket, ok := strings.CutPrefix(u.address(), "unix:")
	if !ok {
		return nil, nil // on a port: whoever names it runs it
	}
	err := dialUnix(socket)
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil // its client says what is wrong
	}
	dir := cmp.Or(u.env.Getenv("USHER_DATADIR"), config.DefaultDataDir(u.env.Getenv))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d := &ownDaemon{upCommand: u, socket: socket, log: filepath.Join(dir, "up.log")}
	if err := os.WriteFile(d.log, nil, 0o600); err != nil {
		return nil, fmt.Errorf("empty the log of the daemon: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	ended, err := d.start()
	if err != nil {
		stop()
		return nil, err
	}
	own, err := d.ready(ctx, ended)
	if err != nil || !own {
		ended.end()
		stop()
		return nil, err
	}
	u.say("no daemon was running: this one ends with usher up; its log is %s", d.log)
	d.wg.Go(func() { d.keep(life, ended) })
	return d, nil
}

// end ends the daemon. Whose daemon is not up's goes on.
func (d *ownDaemon) end() {
	if d != nil {
		d.stop()
		d.wg.Wait()
	}
}

// A daemonProcess is a daemon at work.
type daemonProcess struct {
	cmd  *exec.Cmd
	pipe io.Closer // at whose end the daemon ends
	log  *os.File
	done chan struct{} // closed when it has ended
}

// start starts the daemon in a process group of its own: Ctrl-C is for up, which
// ends the processes first. At the end of up, however that comes, it ends too.
func (d *ownDaemon) start() (*daemonProcess, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of the daemon: %w", err)
	}
	cmd := exec.Command(path, "serve", "--socket", d.socket, "--end-with-stdin")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("start a daemon: %w", err)
	}
	p := &daemonProcess{cmd: cmd, pipe: pipe, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // that it has ended is all that matters
		log.Close()
		close(p.done)
	}()
	return p, nil
}

// end asks the daemon to end and waits for it.
func (p *daemonProcess) end() {
	p.pipe.Close()
	<-p.done
}

// ready waits until the daemon is, or another one that was started at the same
// time and came first: then it reports false.
func (d *ownDaemon) ready(ctx context.Context, p *daemonProcess) (own bool, err error) {
	c, err := d.globals.client()
	if err != nil {
		return false, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, daemonStarts)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	done := p.done
	own = true
	for {
		if c.Ready(ctx) == nil {
			return own, nil
		}
		select {
		case <-done:
			if !strings.Contains(d.lastWords(), etcd.ErrLocked.Error()) {
				return false, fmt.Errorf("the daemon does not start:\n%s", d.lastWords())
			}
			d.say("another daemon has started meanwhile: waiting until it is ready")
			own, done = false, nil
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return false, fmt.Errorf("the daemon is not ready after %v:\n%s", daemonStarts, d.lastWords())
			}
			return false, ctx.Err()
		case <-tick.C:
		}
	}
}

// lastWords returns the end of the daemon's log.
func (d *ownDaemon) lastWords() string {
	const lines = 3
	data, _ := os.ReadFile(d.log) // without it there is nothing to show
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// keep starts the daemon again when it has ended, until ctx is done or there is
// another one. The processes run on meanwhile, and their Pods come back.
func (d *ownDaemon) keep(ctx context.Context, p *daemonProcess) {
	for {
		select {
		case <-ctx.Done():
			p.end()
			return
		case <-p.done:
		}
		d.say("the daemon has ended and is started again: %s", strings.TrimSpace(d.lastWords()))
		for started := false; !started; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(daemonRests):
			}
			if dialUnix(d.socket) == nil {
				d.say("another daemon runs now: that is used")
				return
			}
			next, err := d.start()
			if err != nil {
				d.say("%v", err)
				continue
			}
			p, started = next, true
		}
	}
}
