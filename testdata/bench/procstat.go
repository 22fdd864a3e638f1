//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture that
// Go has.
const tick = 10 * time.Millisecond

// usage is CPU time.
type usage struct{ user, system time.Duration }

func (u usage) total() time.Duration { return u.user + u.system }

func (u usage) plus(v usage) usage { return usage{u.user + v.user, u.system + v.system} }

func (u usage) minus(v usage) usage { return usage{u.user - v.user, u.system - v.system} }

// parseStat reads the CPU time of a process from its /proc/PID/stat (proc(5)).
func parseStat(text string) (usage, error) {
	// The name before may contain anything, blanks and brackets too.
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return usage{}, errors.New("read stat: no name")
	}
	const utime, stime = 14 - 3, 15 - 3 // their places, counted from the state
	fields := strings.Fields(text[end+1:])
	if len(fields) <= stime {
		return usage{}, fmt.Errorf("read stat: %d fields", len(fields))
	}
	return parseTicks(fields[utime], fields[stime])
}

// parseMachine reads the CPU time of the whole machine from /proc/stat. What the
// network does in interrupts is among it, since it is among that of processes.
func parseMachine(text string) (usage, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	const user, nice, system, irq, softirq = 1, 2, 3, 6, 7
	if len(fields) <= softirq || fields[0] != "cpu" {
		return usage{}, fmt.Errorf("read /proc/stat: %q", line)
	}
	var total usage
	for _, pair := range [][2]string{{fields[user], fields[system]}, {fields[nice], fields[irq]}, {"0", fields[softirq]}} {
		u, err := parseTicks(pair[0], pair[1])
		if err != nil {
			return usage{}, err
		}
		total = total.plus(u)
	}
	return total, nil
}

func parseTicks(user, system string) (usage, error) {
	u, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return usage{}, err
	}
	s, err := strconv.ParseInt(system, 10, 64)
	return usage{time.Duration(u) * tick, time.Duration(s) * tick}, err
}

// tree returns the process and all its descendants.
func tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		if err != nil {
			return pids
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a thread that has just ended
			}
			for _, field := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(field); err == nil {
					pids = append(pids, n)
				}
			}
		}
	}
	return pids
}

// usageOf returns the CPU time of the processes.
func usageOf(pids []int) (usage, error) {
	var total usage
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return total, err
		}
		u, err := parseStat(string(text))
		if err != nil {
			return total, err
		}
		total = total.plus(u)
	}
	return total, nil
}

// machineUsage returns the CPU time of the machine, whoever used it.
func machineUsage() (usage, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}, err
	}
	return parseMachine(string(text))
}

// residentOf returns the resident memory of the processes in bytes, and their
// open descriptors.
func residentOf(pids []int) (resident, files int, err error) {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, 0, err
		}
		kb, err := parseResident(string(status))
		if err != nil {
			return 0, 0, err
		}
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return 0, 0, err
		}
		resident += kb << 10
		files += len(open)
	}
	return resident, files, nil
}

// parseResident reads the resident memory in KB from /proc/PID/status.
func parseResident(text string) (int, error) {
	_, rest, found := strings.Cut(text, "VmRSS:")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, errors.New("read status: no VmRSS")
	}
	return strconv.Atoi(fields[0])
}
