// Package setup makes the changes of a machine that usher can do without and
// is better with, and takes them back: `usher setup` and `usher teardown`.
//
// A Change brings a place, such as a file or a route, from one state into
// another. Before it is made it is in a journal on the disk, with the state
// before it. Whatever happens then, Teardown knows what may have been done: it
// goes backwards through the journal, and brings back each place that is as
// setup left it. One that somebody has changed since stays as it is. A setup of
// which a part fails undoes the rest.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// A Machine is what is changed.
type Machine struct {
	OS       string // as runtime.GOOS
	Root     string // before the path of every file; "" but for tests
	StateDir string // where the journal is kept
	DryRun   bool   // say what would be done, and do nothing
	Out      io.Writer

	// Run runs a command of the system and returns what it prints.
	Run func(ctx context.Context, command []string) (string, error)

	// Lookup resolves a name as the programs of this machine do.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
}

// A Change brings a place from one state into another. A state that is nil
// means that there is nothing.
type Change struct {
	Place
	Before *string `json:"before"`
	After  *string `json:"after"`

	// Then are commands to run when the change has been made, and when it has
	// been undone.
	Then [][]string `json:"then,omitempty"`
}

// A Task is one of the things that setup can be asked for.
type Task struct {
	Name string
	Why  string // a sentence

	// plan returns what there is to be changed; nothing if that is so already.
	plan func(ctx context.Context, m *Machine) ([]Change, error)

	// verify returns why the changes do not do what they are for. If nil, that
	// they were made is enough.
	verify func(ctx context.Context, m *Machine) error
}

// Setup carries out tasks, all or none. All of them are planned before the first
// change is made.
func (m *Machine) Setup(ctx context.Context, tasks []Task) (err error) {
	plans := make([][]Change, len(tasks))
	for i, task := range tasks {
		if plans[i], err = task.plan(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", task.Name, err)
		}
	}
	if m.DryRun {
		for i, task := range tasks {
			m.announce(task, plans[i])
			for _, c := range plans[i] {
				m.say("%s", c.script(c.After))
			}
		}
		return nil
	}
	j, err := openJournal(m.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	last := j.last()
	for i, task := range tasks {
		m.announce(task, plans[i])
		if err := m.carryOut(ctx, j, task, plans[i]); err != nil {
			m.say("# %s failed: what was done is undone", task.Name)
			undone := m.undo(context.WithoutCancel(ctx), j, j.since(last))
			return errors.Join(fmt.Errorf("%s: %w", task.Name, err), undone)
		}
	}
	return nil
}

func (m *Machine) announce(task Task, plan []Change) {
	m.say("# %s: %s", task.Name, task.Why)
	if len(plan) == 0 {
		m.say("# it is so already: there is nothing to change")
	}
}

func (m *Machine) say(format string, args ...any) {
	fmt.Fprintf(m.Out, strings.TrimSuffix(format, "\n")+"\n", args...)
}

// carryOut makes the changes of a task and sees whether they do what they are
// for.
func (m *Machine) carryOut(ctx context.Context, j *journal, task Task, plan []Change) error {
	for _, c := range plan {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := j.begin(c); err != nil {
			return err
		}
		m.say("%s", c.script(c.After))
		if err := c.in(m).write(c.After); err != nil {
			return fmt.Errorf("change %s: %w", c.Place, err)
		}
		if err := m.runAll(ctx, c.Then); err != nil {
			return err
		}
	}
	if task.verify == nil {
		return nil
	}
	return task.verify(ctx, m)
}

func (m *Machine) runAll(ctx context.Context, commands [][]string) error {
	for _, command := range commands {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		out, err := m.Run(ctx, command)
		cancel()
		if err != nil {
			return fmt.Errorf("run %s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(out))
		}
	}
	return nil
}

// Teardown undoes what every Setup has done.
func (m *Machine) Teardown(ctx context.Context) (err error) {
	changes, err := Pending(m.StateDir)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		m.say("# there is nothing to undo")
		return nil
	}
	if m.DryRun {
		for i := len(changes) - 1; i >= 0; i-- {
			m.preview(changes[i])
		}
		return nil
	}
	j, err := openJournal(m.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	return m.undo(ctx, j, j.since(0))
}

// undo undoes the changes of entries, the last one first. What cannot be undone
// now, or of which nobody could be told, stays in the journal.
func (m *Machine) undo(ctx context.Context, j *journal, entries []entry) error {
	var errs []error
	for i := len(entries) - 1; i >= 0; i-- {
		c := entries[i].Change
		if m.preview(c) {
			err := c.in(m).write(c.Before)
			if errors.Is(err, errNotEmpty) {
				m.say("# %s is left as it is: somebody has put something into it since", c.Place)
			} else if err != nil {
				errs = append(errs, fmt.Errorf("undo the change of %s: %w", c.Place, err))
				continue
			}
		}
		// Who reads the place is told in any case: an earlier undo may have come no
		// further than the place.
		if err := m.runAll(ctx, c.Then); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, j.end(entries[i].ID))
	}
	return errors.Join(errs...)
}

// preview says what undoing a change means, and reports whether there is
// anything to be done.
func (m *Machine) preview(c Change) bool {
	now, err := c.in(m).read()
	switch {
	case err != nil, same(now, c.After): // undoing it will show what is wrong
		m.say("%s", c.script(c.Before))
		return true
	case same(now, c.Before):
		m.say("# %s is as it was before", c.Place)
	default:
		m.say("# %s is left as it is: somebody has changed it since", c.Place)
	}
	return false
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
