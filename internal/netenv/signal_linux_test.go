package netenv

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"usher/internal/sockets"
)

// waiting is a program that says when it is ready and what it is told, until
// SIGTERM. It ends by itself in the end, whatever goes wrong.
const waiting = `
trap 'echo got INT' INT
trap 'echo got HUP' HUP
trap 'echo got TERM; exit 5' TERM
echo ready $$
i=0; while [ $i -lt 1000 ]; do sleep 0.02; i=$((i+1)); done
echo nobody ended this`

// expect reads a line and compares it.
func expect(t *testing.T, lines *bufio.Reader, want string) {
	t.Helper()
	line, err := lines.ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line != want {
		t.Fatalf("the program says %q, %v; want %q", line, err, want)
	}
}

// started starts cmd, which runs waiting, and returns its output and the
// program's process id once it is ready.
func started(t *testing.T, cmd *exec.Cmd) (lines *bufio.Reader, pid int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := r.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	lines = bufio.NewReader(r)
	return lines, ready(t, lines)
}

func ready(t *testing.T, lines *bufio.Reader) (pid int) {
	t.Helper()
	line, err := lines.ReadString('\n')
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	pid, atoiErr := strconv.Atoi(text)
	if err != nil || !ok || atoiErr != nil {
		t.Fatalf("the program says %q, %v", line, err)
	}
	return pid
}

// TestSignals sends signals to usher, which the program gets.
func TestSignals(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("SKIP: SIGHUP is ignored here, as under nohup, and so it is by every program")
	}
	eachWay(t, func(t *testing.T, w way) {
		cmd := w.usher("sh", "-c", waiting)
		cmd.SysProcAttr = withSession(cmd.SysProcAttr, false)
		lines, pid := started(t, cmd)
		if (pid == cmd.Process.Pid) != w.inPlace {
			t.Errorf("the program is process %d, usher is %d", pid, cmd.Process.Pid)
		}
		for _, s := range []struct {
			signal syscall.Signal
			want   string
		}{{unix.SIGHUP, "got HUP"}, {unix.SIGINT, "got INT"}, {unix.SIGTERM, "got TERM"}} {
			if err := cmd.Process.Signal(s.signal); err != nil {
				t.Fatal(err)
			}
			expect(t, lines, s.want)
		}
		_ = cmd.Wait()
		if code := shellCode(cmd.ProcessState); code != 5 {
			t.Errorf("exit code %d, want 5", code)
		}
	})
}

// TestIgnoredSignals checks that nohup works: the program ignores and blocks
// what it would without usher.
func TestIgnoredSignals(t *testing.T) {
	const show = "grep -E '^Sig(Ign|Blk)' /proc/self/status"
	want, err := exec.Command("sh", "-c", `trap "" HUP; exec `+show).Output()
	if err != nil {
		t.Fatal(err)
	}
	eachWay(t, func(t *testing.T, w way) {
		cmd := w.usher("sh", "-c", "exec "+show)
		cmd.Env = append(cmd.Env, roleNohup+"=yes")
		got, _, _ := run(t, cmd)
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestUsherKilled checks that no program outlives the usher that was to be it.
func TestUsherKilled(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		cmd := w.usher("sh", "-c", waiting)
		lines, _ := started(t, cmd)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		// The output ends when the program has, and the sleep that it ran.
		if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// TestTerminal checks that the program has the terminal in the foreground, and
// that it gets what is typed there once.
func TestTerminal(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		testTerminal(t, w.usher, w.inPlace)
	})
	t.Run("private", func(t *testing.T) {
		socket := lentTo(t, func(_ *http.Request, b *sockets.Borrower) {
			b.Ready()
			<-b.Done()
		})
		testTerminal(t, func(args ...string) *exec.Cmd {
			cmd := ways()[0].usher(args...)
			cmd.Env = append(cmd.Env, rolePrivate+"="+socket)
			return cmd
		}, false)
	})
}

func testTerminal(t *testing.T, usher func(args ...string) *exec.Cmd, inPlace bool) {
	master, slave := terminal(t)
	cmd := usher("sh", "-c", `[ -t 0 ] && [ -t 1 ] && echo terminal; read x </dev/tty; echo "read $x";`+waiting)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = withSession(cmd.SysProcAttr, true)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewReader(master)
	typeIn := func(text string) {
		if _, err := io.WriteString(master, text); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, lines, "terminal")
	typeIn("words\n")
	expect(t, lines, "read words")
	ready(t, lines)
	typeIn("\x03") // Ctrl-C
	expect(t, lines, "got INT")
	if !inPlace { // what the terminal sends to both is not passed on
		if err := cmd.Process.Signal(unix.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect(t, lines, "got TERM")
	_ = cmd.Wait()
	if code := shellCode(cmd.ProcessState); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// withSession puts a process into a session of its own, with standard input
// as its terminal or without one.
func withSession(attr *syscall.SysProcAttr, terminal bool) *syscall.SysProcAttr {
	own := syscall.SysProcAttr{}
	if attr != nil {
		own = *attr
	}
	own.Setsid, own.Setctty = true, terminal
	return &own
}

// terminal opens a pseudo terminal that does not echo.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIP: no pseudo terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag &^= unix.ECHO | unix.ECHOCTL
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
