package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// journalName is the file in the state directory. A line of it is a record, in
// JSON: a change that is about to be made, or that one has been undone.
const journalName = "changes.jsonl"

// A record is a line of the journal.
type record struct {
	ID     int        `json:"id"`
	Time   *time.Time `json:"time,omitempty"`
	Change *Change    `json:"change,omitempty"`
	Undone bool       `json:"undone,omitempty"` // or left to whoever has changed it since
}

// An entry is a change that is not undone.
type entry struct {
	ID     int
	Change Change
}

// A journal is the file, for this process alone.
type journal struct {
	file    *os.File
	entries []entry
	id      int // the last one given
}

// Pending returns the changes that have been made and not undone, the oldest
// first. The last of them may not have been made yet.
func Pending(stateDir string) ([]Change, error) {
	data, err := os.ReadFile(filepath.Join(stateDir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what setup has done: %w", err)
	}
	j := new(journal)
	if _, err := j.read(data); err != nil {
		return nil, fmt.Errorf("read what setup has done: %s: %w", filepath.Join(stateDir, journalName), err)
	}
	var changes []Change
	for _, e := range j.entries {
		changes = append(changes, e.Change)
	}
	return changes, nil
}

// openJournal opens the journal for this process alone.
func openJournal(stateDir string) (*journal, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	path := filepath.Join(stateDir, journalName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j := &journal{file: file}
	if err := j.open(stateDir); err != nil {
		file.Close()
		return nil, fmt.Errorf("open the journal: %s: %w", path, err)
	}
	return j, nil
}

func (j *journal) open(stateDir string) error {
	err := syscall.Flock(int(j.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another usher setup or teardown is at work")
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(j.file)
	if err != nil {
		return err
	}
	whole, err := j.read(data)
	if err != nil {
		return err
	}
	if err := j.file.Truncate(int64(whole)); err != nil {
		return err
	}
	return syncDir(stateDir)
}

// read reads the records and returns how many bytes they are. A last line
// without an end was being written when the process was killed: what it is
// about has not been done.
func (j *journal) read(data []byte) (whole int, err error) {
	whole = bytes.LastIndexByte(data, '\n') + 1
	number := 0
	for line := range bytes.Lines(data[:whole]) {
		number++
		var r record
		if err := json.Unmarshal(line, &r); err != nil || (r.Change == nil) == !r.Undone {
			return 0, fmt.Errorf("line %d makes no sense: %s", number, bytes.TrimSpace(line))
		}
		j.id = max(j.id, r.ID)
		if r.Change != nil {
			j.entries = append(j.entries, entry{r.ID, *r.Change})
			continue
		}
		j.drop(r.ID)
	}
	return whole, nil
}

func (j *journal) drop(id int) {
	for i, e := range j.entries {
		if e.ID == id {
			j.entries = append(j.entries[:i], j.entries[i+1:]...)
			return
		}
	}
}

// last returns the number of the last entry.
func (j *journal) last() int { return j.id }

// since returns the entries after one, the oldest first.
func (j *journal) since(id int) []entry {
	var list []entry
	for _, e := range j.entries {
		if e.ID > id {
			list = append(list, e)
		}
	}
	return list
}

// begin notes a change that is about to be made.
func (j *journal) begin(c Change) error {
	now := time.Now().UTC()
	j.id++
	if err := j.write(record{ID: j.id, Time: &now, Change: &c}); err != nil {
		return err
	}
	j.entries = append(j.entries, entry{j.id, c})
	return nil
}

// end notes that there is nothing to undo any more about a change.
func (j *journal) end(id int) error {
	if err := j.write(record{ID: id, Undone: true}); err != nil {
		return err
	}
	j.drop(id)
	return nil
}

// write returns when the record is on the disk.
func (j *journal) write(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	info, err := j.file.Stat()
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	_, err = j.file.Write(append(line, '\n'))
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil { // a part of a line would spoil the next one
		return fmt.Errorf("write the journal: %w", errors.Join(err, j.file.Truncate(info.Size())))
	}
	return nil
}

// close gives the journal back, empty if there is nothing to undo. The file
// stays: another process may have opened it already.
func (j *journal) close() error {
	var err error
	if len(j.entries) == 0 {
		err = j.file.Truncate(0)
	}
	return errors.Join(err, j.file.Close())
}
