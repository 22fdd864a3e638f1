package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/internal/config"
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
	conn, err := net.Dial("unix", socket)
	if err == nil {
		conn.Close()
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
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	ended, err := d.start()
	if err != nil {
		stop()
		return nil, err
	}
	if err := d.ready(ctx, ended); err != nil {
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
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
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

// ready waits until the daemon is.
func (d *ownDaemon) ready(ctx context.Context, p *daemonProcess) error {
	c, err := d.globals.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, daemonStarts)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.Ready(ctx) == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the daemon does not start:\n%s", d.lastWords())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("the daemon is not ready after %v:\n%s", daemonStarts, d.lastWords())
			}
			return ctx.Err()
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

// keep starts the daemon again when it has ended, until ctx is done. The
// processes run on meanwhile, and their Pods come back.
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
			next, err := d.start()
			if err != nil {
				d.say("%v", err)
				continue
			}
			p, started = next, true
		}
	}
}
