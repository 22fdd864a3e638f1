package up

import (
	"context"
	"strings"
)

// An Up is a project at work.
type Up struct {
	// Load reads what the project is now.
	Load func() (*Project, error)

	// Apply makes the registry have the objects of the project. It is called
	// whenever the files may have changed. After an error some may be as they were.
	Apply func(ctx context.Context, p *Project) error

	Run Runner
	Say func(format string, a ...any)

	// Follow is told the files to look after, and Changes has an element when one
	// of them may have changed.
	Follow  func(p *Project)
	Changes <-chan struct{}

	// AbortOnExit ends everything when a process has ended.
	AbortOnExit bool
}

// Keep runs the project until ctx is done, or with AbortOnExit until a process
// has ended, whose exit code it returns. No process is left then. That a project
// is wrong is an error at first, and later said: the last one that was right
// goes on.
func (u *Up) Keep(ctx context.Context) (int, error) {
	project, err := u.Load()
	if err != nil {
		return 0, err
	}
	u.Follow(project) // before it is applied, which takes time: what is saved meanwhile is seen
	if err := u.Apply(ctx, project); err != nil {
		return 0, err
	}
	processes := newSet(u.Run)
	defer processes.close()
	processes.apply(ctx, project.Processes)
	for {
		select {
		case <-ctx.Done():
			return 0, nil
		case <-u.Changes:
			u.reload(ctx, processes)
		case e := <-processes.exits:
			if u.AbortOnExit {
				return e.code, e.err
			}
			if e.err != nil {
				u.Say("%s does not run: %v", e.name, e.err)
				continue
			}
			u.Say("%s has ended with exit code %d", e.name, e.code)
		}
	}
}

// reload applies what has changed, or says why it does not.
func (u *Up) reload(ctx context.Context, processes *set) {
	project, err := u.Load()
	if err != nil {
		u.Say("nothing is changed: %v", err)
		return
	}
	u.Follow(project)
	err = u.Apply(ctx, project)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		u.Say("not all is applied, and no process is changed: %v", err)
		return
	}
	stopped, started := processes.apply(ctx, project.Processes)
	if len(stopped) > 0 {
		u.Say("stopped: %s", strings.Join(stopped, ", "))
	}
	if len(started) > 0 {
		u.Say("started: %s", strings.Join(started, ", "))
	}
}
