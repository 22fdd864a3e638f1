package agent

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
)

// A watchdog is a process that outlives the agent by a moment, however the
// agent ends, and ends the process groups that are left then. (Linux' parent
// death signal is for a child alone, not for what that has started, and other
// systems have none.)
type watchdog struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser // its end is the agent's end; no program inherits it
}

// startWatchdog starts command, which has to call RunWatchdog with its standard
// input. The caller must stop it.
func startWatchdog(command []string) (*watchdog, error) {
	cmd := exec.Command(command[0], command[1:]...)
	// Neither a signal to the agent's process group nor the end of its terminal
	// is for the watchdog, and it holds no output of the agent open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &watchdog{cmd: cmd, pipe: pipe}, nil
}

// add tells the watchdog of a process group, and remove that it has ended. One
// that is not there any more cannot be told: the rest works without it.
func (w *watchdog) add(group int)    { w.tell('+', group) }
func (w *watchdog) remove(group int) { w.tell('-', group) }

func (w *watchdog) tell(verb byte, group int) {
	if w != nil {
		_, _ = fmt.Fprintf(w.pipe, "%c%d\n", verb, group) // in one piece
	}
}

// stop ends the watchdog when there is nothing left to watch.
func (w *watchdog) stop() {
	if w != nil {
		_ = w.cmd.Process.Kill() // it may not have come to its first line yet
		_ = w.cmd.Wait()         // closes the pipe
	}
}

// RunWatchdog reads from r which process groups there are, and at its end sends
// SIGKILL to those that are left. No other signal than that ends it.
func RunWatchdog(r io.Reader) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return watchGroups(r)
}

func watchGroups(r io.Reader) error {
	groups := make(map[int]bool)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			continue
		}
		group, err := strconv.Atoi(line[1:])
		if err != nil || group <= 1 { // which kill(2) takes for everything there is
			return fmt.Errorf("read a process group: %q is none", line)
		}
		switch line[0] {
		case '+':
			groups[group] = true
		case '-':
			delete(groups, group)
		}
	}
	for group := range groups {
		_ = syscall.Kill(-group, syscall.SIGKILL) // it may have ended
	}
	return lines.Err()
}
