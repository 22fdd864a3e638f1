package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// An editReason is why a file must be edited again.
type editReason struct {
	head  string
	other []string
}

// editHeader is on top of a file, in kubectl's words.
const editHeader = `# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
`

// An editFile is a temporary file in an editor.
type editFile struct {
	json bool   // which has no comments
	path string // of the last one, "" before
}

// open lets the user edit a text below the reasons, and returns what was saved.
func (f *editFile) open(ctx context.Context, env Env, reasons []editReason, text []byte) ([]byte, error) {
	f.remove()
	suffix := ".yaml"
	if f.json {
		suffix = ".json"
	} else {
		text = append(headerOf(reasons), text...)
	}
	file, err := os.CreateTemp("", "usher-edit-*"+suffix)
	if err != nil {
		return nil, err
	}
	f.path = file.Name()
	_, err = file.Write(text)
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	if err := runEditor(ctx, env, f.path); err != nil {
		return nil, err
	}
	return os.ReadFile(f.path)
}

// remove removes the file.
func (f *editFile) remove() {
	if f.path != "" {
		os.Remove(f.path)
		f.path = ""
	}
}

func headerOf(reasons []editReason) []byte {
	text := bytes.NewBufferString(editHeader)
	comment := func(format, s string) { fmt.Fprintf(text, format, strings.ReplaceAll(s, "\n", "\n# ")) }
	for _, r := range reasons {
		if len(r.other) == 0 {
			comment("# %s\n", r.head)
		} else {
			comment("# %s:\n", r.head)
		}
		for _, line := range r.other {
			comment("# * %s\n", line)
		}
		text.WriteString("#\n")
	}
	return text.Bytes()
}

// withoutHead returns text without the header and the reasons on top of it. What
// begins with "#" further below may be a part of a value.
func withoutHead(text []byte) []byte {
	for bytes.HasPrefix(text, []byte("#")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text
}

// withoutComments returns text without the lines that begin with "#".
func withoutComments(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			out = append(out, line...)
		}
	}
	return out
}

// runEditor runs the user's editor until it ends. One with quotes in it is a
// shell's matter.
func runEditor(ctx context.Context, env Env, path string) error {
	editor := cmp.Or(env.Getenv("KUBE_EDITOR"), env.Getenv("EDITOR"), "vi")
	words := strings.Fields(editor)
	if strings.Contains(editor, " ") && strings.ContainsAny(editor, `"'\`) {
		words = []string{cmp.Or(env.Getenv("SHELL"), "/bin/bash"), "-c", editor + ` "$0"`}
	}
	if len(words) == 0 {
		return fmt.Errorf("there is no editor: EDITOR is %q", editor)
	}
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = env.Stdin, env.Stdout, env.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("there was a problem with the editor %q: %w", editor, err)
	}
	return nil
}
