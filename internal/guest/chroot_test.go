package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestProgramsAreLookedForInTheGuest(t *testing.T) {
	g := newGuest(t,
		node{path: "/usr/bin/sh", mode: 0o755}, node{path: "/usr/local/bin/sh", mode: 0o644}, node{path: "/usr/local/sbin/sh/", mode: 0o755},
		node{path: "/usr/bin/awk", link: "/etc/alternatives/awk"}, node{path: "/etc/alternatives/awk", link: "/usr/bin/mawk"}, node{path: "/usr/bin/mawk", mode: 0o755},
		node{path: "/usr/bin/ls", link: "/usr/bin/true-on-the-host-only"}, node{path: "/usr/bin/cat", link: "../../../../../../../../bin/cat"})
	c := &Chroot{Dir: g.dir}
	for name, want := range map[string]string{
		"sh": "/usr/bin/sh", "awk": "/usr/bin/awk", "ls": "", "cat": "", "no-such-program": "", "nologin": "/usr/sbin/nologin", "/any/path": "/any/path",
	} {
		got, err := c.lookPath(name)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

// mountPoints are those below a directory, in this thread's namespace.
func mountPoints(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	peer.Must(t, err)
	var found []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir) {
			found = append(found, f[4])
		}
	}
	return found
}

func TestPrepareIsTakenBackWhole(t *testing.T) {
	for name, more := range map[string][]node{
		"plain":         {},
		"own-policy":    {{path: policyPath, mode: 0o750, gid: 4, content: "#!/bin/sh\nexit 104\n"}},
		"own-resolver":  {{path: "/etc/hidden", content: "x"}, {path: policyPath, link: "/etc/hidden"}},
		"files-beneath": {{path: "/run/file", content: "x"}, {path: "/dev/file", content: "x"}, {path: "/tmp/herdbook", content: "x"}},
	} {
		g := newGuest(t, more...)
		before := snapshot(t, g.dir)
		restore, err := Prepare(g.Root, "10.0.2.3")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if text, err := g.Root.ReadFile(resolvPath); err != nil || string(text) != "nameserver 10.0.2.3\n" {
			t.Errorf("%s: %s: %q, %v", name, resolvPath, text, err)
		}
		if text, err := g.Root.ReadFile(policyPath); err != nil || string(text) != "#!/bin/sh\nexit 101\n" {
			t.Errorf("%s: %s: %q, %v", name, policyPath, text, err)
		}
		for _, dir := range []string{"/dev/null", "/proc/self/stat", "/sys/kernel", "/run", "/tmp"} {
			if _, err := g.Root.Stat(dir); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		peer.Must(t, os.WriteFile(filepath.Join(g.dir, "tmp/of-a-command"), nil, 0o600))
		peer.Must(t, os.WriteFile(filepath.Join(g.dir, "run/of-a-command"), nil, 0o600))
		if err := restore(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := diff(before, snapshot(t, g.dir)); got != "" {
			t.Errorf("%s: after all\n%s", name, got)
		}
		if left := mountPoints(t, g.dir); len(left) > 0 {
			t.Errorf("%s: still mounted: %v", name, left)
		}
		if err := restore(); err != nil {
			t.Errorf("%s: a second time: %v", name, err)
		}
	}
}

func TestPrepareWithoutANameserverLeavesTheResolver(t *testing.T) {
	g := newGuest(t)
	restore, err := Prepare(g.Root, "")
	peer.Must(t, err)
	if link, err := g.Root.ReadLink(resolvPath); err != nil || link != "/run/systemd/resolve/stub-resolv.conf" {
		t.Errorf("%s, %v", link, err)
	}
	peer.Must(t, restore())
}

// Where mounts are shared, as systemd has them, an unmount in the guest is one
// on the host too, unless the mount was made private.
func TestPrepareLeavesTheHostsMounts(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
	peer.Must(t, unix.Mount("tmpfs", "/dev/pts", "tmpfs", 0, ""))
	before := mountPoints(t, "/")
	restore, err := Prepare(g.Root, "")
	peer.Must(t, err)
	if len(mountPoints(t, g.dir)) < len(binds) {
		t.Errorf("only %v are mounted", mountPoints(t, g.dir))
	}
	peer.Must(t, restore())
	if after := mountPoints(t, "/"); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("mounted before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// A root that cannot be prepared is left as it was.
func TestPrepareThatFailsLeavesNothing(t *testing.T) {
	outside := sandbox(t)
	for name, spoil := range map[string]func(dir string) error{
		"no such file or directory": func(dir string) error { return os.Remove(filepath.Join(dir, "sys")) },
		"/run is no directory": func(dir string) error {
			run := filepath.Join(dir, "run")
			return errors.Join(os.Remove(run), os.Symlink(outside, run))
		},
		"/tmp is no directory": func(dir string) error {
			tmp := filepath.Join(dir, "tmp")
			return errors.Join(os.RemoveAll(tmp), os.WriteFile(tmp, nil, 0o600))
		},
		"open /etc:": func(dir string) error { return os.Rename(filepath.Join(dir, "etc"), filepath.Join(dir, "srv/etc")) },
	} {
		g := newGuest(t)
		peer.Must(t, spoil(g.dir))
		before := snapshot(t, g.dir)
		_, err := Prepare(g.Root, "10.0.2.3")
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "prepare the guest for commands: ") {
			t.Errorf("error %v, want one with %q", err, name)
		}
		if got := diff(before, snapshot(t, g.dir)); got != "" {
			t.Errorf("%s: left\n%s", name, got)
		}
		if left := mountPoints(t, g.dir); len(left) > 0 {
			t.Errorf("%s: still mounted: %v", name, left)
		}
	}
}

// What Prepare mounts is what commands see, and the image sees nothing of it.
func TestCommandsInAPreparedRoot(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "mountpoint", "cat")
	restore, err := Prepare(g.Root, "")
	peer.Must(t, err)
	before := snapshot(t, filepath.Join(g.dir, "etc"))
	script{text: "for d in /dev /proc /sys /run /tmp; do mountpoint -q $d || echo no $d; done\necho x >/tmp/x; cat </dev/null; cat /proc/self/comm", stdout: []string{"cat"}}.check(t, g, nil)
	peer.Must(t, restore())
	if g.Root.Exists("/tmp/x") || g.Root.Exists("/tmp/herdbook-script") {
		t.Error("the commands' /tmp reached the image")
	}
	if got := diff(before, snapshot(t, filepath.Join(g.dir, "etc"))); got != "" {
		t.Error(got)
	}
}

// Other file systems are no part of a tree that is removed.
func TestRemoveAllLeavesOtherFileSystems(t *testing.T) {
	g := newGuest(t, node{path: "/srv/a/mounted/", mode: 0o755}, node{path: "/srv/a/file", content: "x"})
	target := filepath.Join(g.dir, "srv/a/mounted")
	peer.Must(t, unix.Mount("tmpfs", target, "tmpfs", 0, ""))
	t.Cleanup(func() { peer.Must(t, unix.Unmount(target, 0)) })
	peer.Must(t, os.WriteFile(filepath.Join(target, "precious"), []byte("x"), 0o600))
	if err := Apply(t.Context(), g.Guest, &op.Delete{Paths: []string{"/srv/a"}}); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
		t.Errorf("error %v", err)
	}
	if !g.Root.Exists("/srv/a/mounted/precious") || g.Root.Exists("/srv/a/file") {
		t.Errorf("removed the wrong file")
	}
}
