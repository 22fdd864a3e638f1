package agent

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kill -9 of the agent ends its processes with it, and what they have started.
func TestRunKilled(t *testing.T) {
	tests := map[string][]string{
		"a process": {"stubborn"},
		"its child": {"family", "stubborn"},
	}
	for name, command := range tests {
		t.Run(name, func(t *testing.T) {
			runner := program(append([]string{"runner"}, command...)...)
			cmd := exec.Command(runner[0], runner[1:]...)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			if !lines.Scan() || lines.Text() != "stubborn" {
				t.Fatalf("the process says %q", lines.Text())
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			// The processes have the agent's output: its end is the end of all.
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				for lines.Scan() {
				}
			}()
			select {
			case <-closed:
			case <-time.After(20 * time.Second):
				t.Error("the process has outlived the agent by 20 s")
				stdout.Close()
				<-closed
			}
			_ = cmd.Wait() // killed
		})
	}
}

// The watchdog ends the groups that it was told of and not of their end, when
// its input ends and not by a signal.
func TestWatchdog(t *testing.T) {
	dog, err := startWatchdog(program("watchdog"))
	if err != nil {
		t.Fatal(err)
	}
	var ps []*process
	for range 2 {
		var out writes
		p, err := startProcess(program("stubborn"), "", nil, &out, &out, dog, nil)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	left, ended := ps[0], ps[1]
	dog.remove(ended.cmd.Process.Pid)
	dog.pipe.Close()
	<-left.dead
	if code, sig := left.status(); sig != syscall.SIGKILL {
		t.Errorf("ended with %d, want by SIGKILL", code)
	}
	if err := dog.cmd.Wait(); err != nil {
		t.Errorf("the watchdog ended with %v", err)
	}
	select {
	case <-ended.dead:
		t.Error("a group was killed that had ended")
	default:
	}
	ended.signal(syscall.SIGKILL)
	<-ended.drained
	<-left.drained
}

// What is no process group is refused: kill(2) takes 0, 1 and -1 for many.
func TestWatchdogRefuses(t *testing.T) {
	for _, line := range []string{"+", "+0", "+1", "+-1", "+x", "5"} {
		if err := watchGroups(strings.NewReader(line + "\n")); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}
