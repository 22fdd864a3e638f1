//go:build linux

package main

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194560 100 200 0 0 123 45 6 7 20 0 9 0 1000"
	want := usage{1230 * time.Millisecond, 450 * time.Millisecond}
	for _, name := range []string{"(nginx)", "(nginx: worker)", "(a) S 1 2 (b)", "(\n)"} {
		got, err := parseStat("4321 " + name + rest)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, text := range []string{"", "1 (short) S 1", "1 (bad) S 1 2 3 0 -1 4194560 100 200 0 0 x 45"} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q gives %+v", text, got)
		}
	}
}

func TestParseMachine(t *testing.T) {
	got, err := parseMachine("cpu  100 10 200 9000 50 1 2 3 0 0\ncpu0 1 2 3 4\n")
	if want := (usage{1100 * time.Millisecond, 2030 * time.Millisecond}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := parseMachine("intr 1 2 3"); err == nil {
		t.Error("no line of the CPU is taken for one")
	}
}

func TestParseResident(t *testing.T) {
	got, err := parseResident("Name:\tusher\nVmRSS:\t   35436 kB\nRssAnon:\t 1 kB\n")
	if err != nil || got != 35436 {
		t.Errorf("%d, %v", got, err)
	}
	for _, text := range []string{"", "VmRSS:", "VmRSS: x kB"} {
		if _, err := parseResident(text); err == nil {
			t.Errorf("%q has a size", text)
		}
	}
}

// TestTree finds the child of a child, which is where nginx does its work.
func TestTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if _, err := out.Read(buf); err != nil { // it has been started
		t.Fatal(err)
	}
	pids := tree(cmd.Process.Pid)
	if len(pids) != 2 || !slices.Contains(tree(os.Getpid()), pids[1]) {
		t.Errorf("the tree of a process with one child is %v", pids)
	}
	resident, files, err := residentOf(pids)
	if err != nil || resident <= 0 || files < 3 {
		t.Errorf("%d bytes and %d descriptors, %v", resident, files, err)
	}
	for _, pid := range slices.Backward(pids) {
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
	cmd.Wait()
}

// TestUsage burns some time, and finds it.
func TestUsage(t *testing.T) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		u, err := usageOf([]int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		if u.total() >= 3*tick {
			return
		}
	}
	t.Error("10s of work took no time")
}
