package agent

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Signals that are for the agent do not end its watchdog, and it is in no
// process group that gets them.
func TestWatchdogSignals(t *testing.T) {
	dog, err := startWatchdog(program("watchdog"))
	if err != nil {
		t.Fatal(err)
	}
	defer dog.stop()
	pid := dog.cmd.Process.Pid
	if group, err := syscall.Getpgid(pid); group != pid {
		t.Errorf("it is in the process group %d, %v, want one of its own", group, err)
	}
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	limit := time.After(40 * time.Second)
	for !ignores(t, pid, signals) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			t.Fatal("it does not ignore them")
		}
	}
	for _, sig := range signals {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	dog.pipe.Close()
	if err := dog.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// ignores reports whether a process ignores all of the signals.
func ignores(t *testing.T, pid int, signals []syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var mask uint64
	_, after, _ := strings.Cut(string(status), "\nSigIgn:")
	if _, err := fmt.Sscanf(after, "%x", &mask); err != nil {
		t.Fatal(err)
	}
	for _, sig := range signals {
		if mask&(1<<(sig-1)) == 0 {
			return false
		}
	}
	return true
}
