package guest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestFileWritesOneFile(t *testing.T) {
	for name, o := range map[string]*op.File{
		"new":            {Path: "/etc/app.conf", Content: "channel=stable\n"},
		"new-parents":    {Path: "/srv/a/b/c", Content: "c", Mode: "0600", Owner: "deploy"},
		"replace":        {Path: "/etc/motd", Content: "Hello\n"},
		"owner-by-name":  {Path: "/srv/x", Owner: "www-data"},
		"owner-number":   {Path: "/srv/x", Owner: "1000"},
		"owner-unknown":  {Path: "/srv/x", Owner: "4711"},
		"group-of-other": {Path: "/srv/x", Owner: "deploy", Group: "adm"},
		"group-number":   {Path: "/srv/x", Group: "4711"},
		"set-user-id":    {Path: "/usr/local/bin/su", Content: "x", Mode: "4755", Owner: "daemon"},
		"through-link":   {Path: "/etc/issue", Content: "Mine\n"},
		"link-to-dir":    {Path: "/lib/new", Content: "usrmerge\n"},
		"dangling-link":  {Path: "/etc/alternatives/editor", Content: "nano\n"},
		"link-climbs":    {Path: "/lib/climbs", Content: "where the kernel would look\n"},
		"loop":           {Path: "/srv/loop", Content: "instead of the loop\n"},
		"not-utf-8":      {Path: "/srv/x", Content: "a\x00\xff"},
		"long-name":      {Path: "/srv/" + strings.Repeat("n", 255), Content: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// /lib is usr/lib: .. in a link there climbs to /usr, not to /.
			g := newGuest(t, node{path: "/usr/lib/climbs", link: "../climbed"}, node{path: "/srv/loop", link: "loop"})
			g.golden(t, name, o)
		})
	}
}

func TestFileReplacesAPipeOrADevice(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, syscall.Mkfifo(filepath.Join(g.dir, "srv/pipe"), 0o600))
	peer.Must(t, syscall.Mknod(filepath.Join(g.dir, "srv/zero"), syscall.S_IFCHR|0o666, 1<<8|5))
	for _, name := range []string{"/srv/pipe", "/srv/zero"} {
		peer.Must(t, Apply(t.Context(), g.Guest, &op.File{Path: name, Content: "x"}))
		st, err := g.Root.Lstat(name)
		if err != nil || !isFile(st) {
			t.Errorf("%s: mode %o, %v, want a regular file", name, st.Mode, err)
		}
	}
}

func TestFileRefuses(t *testing.T) {
	g := newGuest(t, node{path: "/srv/abroad", link: "/nowhere/file"})
	for want, o := range map[string]*op.File{
		"a directory of that name":     {Path: "/etc"},
		`no account "nobody-here"`:     {Path: "/srv/x", Owner: "nobody-here"},
		`no group "nobody-here"`:       {Path: "/srv/x", Group: "nobody-here"},
		"not a directory":              {Path: "/etc/passwd/x"},
		"no such file or directory":    {Path: "/srv/abroad"},
		"invalid syntax":               {Path: "/srv/x", Mode: "rwx"},
		"file name too long":           {Path: "/srv/" + strings.Repeat("n", 256)},
		"there is a directory of that": {Path: "/bin"},
	} {
		g.refuse(t, o, want)
	}
}

// A reader can see the old file or the new one and nothing between.
func TestWriteLeavesNothingHalfDone(t *testing.T) {
	g := newGuest(t)
	before := snapshot(t, g.dir)
	broken := io.MultiReader(strings.NewReader("half of a"), iotest.ErrReader(errors.New("broken on purpose")))
	if err := g.Root.WriteFrom("/etc/motd", broken, owned(0o644)); err == nil || !strings.Contains(err.Error(), "broken on purpose") {
		t.Errorf("error %v", err)
	}
	if got := diff(before, snapshot(t, g.dir)); got != "" {
		t.Errorf("it left\n%s", got)
	}
	// What a crash left is no hindrance, even as a link to something precious.
	peer.Must(t, os.Symlink("/etc/passwd", filepath.Join(g.dir, "etc/.herdbook-motd")))
	peer.Must(t, g.Root.WriteFile("/etc/motd", []byte("new\n"), owned(0o644), false))
	if got := snapshot(t, g.dir); got["/etc/passwd"] != before["/etc/passwd"] || got["/etc/.herdbook-motd"] != "" {
		t.Errorf("the link was followed or left: %v", diff(before, got))
	}
}

// With keep, an existing file's mode and owner are its own, whatever is said.
func TestFileKeeps(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "keep", &op.File{Path: "/etc/motd", Content: "moo\n", Mode: "0777", Owner: "deploy", Keep: true})
	g.golden(t, "keep-new", &op.File{Path: "/etc/new", Content: "moo\n", Mode: "0600", Owner: "deploy", Keep: true})
}
