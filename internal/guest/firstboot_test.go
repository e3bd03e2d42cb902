package guest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestFirstbootLeavesAServiceForEveryInit(t *testing.T) {
	noSystemd := func(g *guestTest) { peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/lib/systemd/systemd"))) }
	for name, more := range map[string][]node{
		"systemd": nil,
		"openrc":  {{path: "/usr/sbin/openrc-run", mode: 0o755}, {path: "/etc/runlevels/default/", mode: 0o755}, {path: "/etc/init.d/", mode: 0o755}},
		"red-hat": {{path: "/etc/rc.d/init.d/", mode: 0o755}, {path: "/etc/init.d", link: "rc.d/init.d"}, {path: "/etc/rc.d/rc3.d/", mode: 0o755}, {path: "/etc/rc.d/rc5.d/", mode: 0o755}, {path: "/etc/rc3.d", link: "rc.d/rc3.d"}},
		"suse":    {{path: "/etc/init.d/rc2.d/", mode: 0o755}, {path: "/etc/init.d/rc3.d/", mode: 0o755}, {path: "/etc/rc.d", link: "init.d"}},
		"debian":  {{path: "/etc/init.d/", mode: 0o755}, {path: "/etc/rc2.d/", mode: 0o755}, {path: "/etc/rc3.d/", mode: 0o755}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, more...)
			if name != "systemd" {
				noSystemd(g)
			}
			g.golden(t, name, &op.Firstboot{Name: "register", Command: "curl https://example.org", Retries: 2})
		})
	}
	g := newGuest(t)
	noSystemd(g)
	g.refuse(t, &op.Firstboot{Name: "register", Command: "true"}, "no init system that herdbook knows")
}

// The number goes on where an earlier run stopped, and nothing is overwritten.
func TestFirstbootCountsOn(t *testing.T) {
	g := newGuest(t, node{path: "/var/lib/herdbook/firstboot/result", content: "ok\n"})
	for range 2 {
		peer.Must(t, Apply(t.Context(), g.Guest, &op.Firstboot{Name: "same", Command: "true"}))
	}
	g.golden(t, "script", &op.Firstboot{Name: "same", Script: "#!/usr/bin/env python3\nprint('moo')", Optional: true})
	g.golden(t, "install", &op.Firstboot{Name: "tools", Install: []string{"curl", "jq"}})
	names, err := g.Root.ReadDir(firstbootDir)
	peer.Must(t, err)
	if want := "0001-same 0002-same 0003-same 0004-tools remove run"; strings.Join(names, " ") != want {
		t.Errorf("there is %v, want %s", names, want)
	}
	peer.Must(t, os.Mkdir(filepath.Join(g.dir, firstbootDir, "9999-last"), 0o700))
	if err := Apply(t.Context(), g.Guest, &op.Firstboot{Name: "more", Command: "true"}); err == nil || !strings.Contains(err.Error(), "9999 already") {
		t.Errorf("error %v", err)
	}
}

func TestFirstbootInstallNeedsAManager(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/bin/apt-get")))
	g.refuse(t, &op.Firstboot{Name: "tools", Install: []string{"curl"}}, "no package manager")
}

// In a shell, a status that the manager means well does not end the script.
func TestFirstbootInstallReadsZyppersStatus(t *testing.T) {
	g := newGuest(t, node{path: "/usr/bin/zypper", mode: 0o755})
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/bin/apt-get")))
	text, err := g.firstbootText(&op.Firstboot{Install: []string{"it's"}})
	peer.Must(t, err)
	for status, want := range map[string]string{"0": "0", "102": "0", "4": "1"} {
		script := strings.ReplaceAll(text, "'zypper'", "(exit "+status+") && true")
		out, _ := exec.Command("sh", "-c", script+"\necho 0").Output()
		if got := strings.TrimSpace(string(out)); (got == "0") != (want == "0") {
			t.Errorf("status %s: %q of %s", status, got, script)
		}
	}
}

// boots is a machine that is booted again and again; its first boot's scripts
// leave words in the file seen.
type boots struct {
	*guestTest
	shell []string
}

// boot runs the runner as the service would and returns what it printed.
func (b boots) boot(t *testing.T) (output string, status int) {
	t.Helper()
	dir := filepath.Join(b.dir, firstbootDir)
	c := exec.Command(b.shell[0], append(b.shell[1:], filepath.Join(dir, "run"))...)
	c.Env = []string{"HERDBOOK_FIRSTBOOT=" + dir, "HERDBOOK_FIRSTBOOT_ROOT=" + b.dir, "HERDBOOK_FIRSTBOOT_PAUSE=0", "SEEN=" + filepath.Join(b.dir, "seen")}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// state is a file that the runner keeps, without its end; "" if there is none.
func (b boots) state(name string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, firstbootDir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (b boots) expect(t *testing.T, files map[string]string) {
	t.Helper()
	for name, want := range files {
		if got := b.state(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// gone holds that the service has removed itself.
func (b boots) gone(t *testing.T) {
	t.Helper()
	for _, name := range []string{firstbootRun, firstbootRemove, "/etc/systemd/system/herdbook-firstboot.service", "/etc/systemd/system/multi-user.target.wants/herdbook-firstboot.service"} {
		if b.Root.Exists(name) {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestTheFirstBoot(t *testing.T) {
	say := func(word string) string { return "echo " + word + " >>\"$SEEN\"\n" }
	for name, c := range map[string]struct {
		scripts []op.Firstboot
		boots   int
		seen    string // the words, joined
		status  int    // of the last boot
		files   map[string]string
	}{
		"all well, in order": {
			[]op.Firstboot{{Name: "zeta", Command: say("one") + "echo out; echo err >&2"}, {Name: "alpha", Command: say("two")}}, 1, "one two", 0,
			map[string]string{"result": "ok", "0001-zeta/result": "ok", "0001-zeta/status": "0", "0001-zeta/attempts": "1", "0002-alpha/result": "ok", "0001-zeta/script": ""},
		},
		"a failure stops what comes behind it": {
			[]op.Firstboot{{Name: "a", Command: say("a")}, {Name: "b", Command: say("b") + "false\n" + say("not-reached")}, {Name: "c", Command: say("c")}}, 1, "a b", 1,
			map[string]string{"result": "failed b 1", "0002-b/result": "failed", "0002-b/status": "1", "0003-c/result": "skipped", "0003-c/attempts": ""},
		},
		"an optional one does not": {
			[]op.Firstboot{{Name: "a", Command: "exit 7", Optional: true}, {Name: "b", Command: say("b")}}, 1, "b", 1,
			map[string]string{"result": "failed a 7", "0001-a/status": "7", "0002-b/result": "ok"},
		},
		"it is tried again": {
			[]op.Firstboot{{Name: "a", Command: say("try") + `test $(wc -l <"$SEEN") = 3`, Retries: 5}}, 1, "try try try", 0,
			map[string]string{"result": "ok", "0001-a/attempts": "3", "0001-a/status": "0"},
		},
		"but not for ever": {
			[]op.Firstboot{{Name: "a", Command: say("try") + "exit 9", Retries: 2}}, 1, "try try try", 1,
			map[string]string{"result": "failed a 9", "0001-a/attempts": "3"},
		},
		"power is lost": {
			[]op.Firstboot{{Name: "a", Command: say("a") + "kill -9 $PPID"}, {Name: "b", Command: say("b")}}, 2, "a", 1,
			map[string]string{"result": "failed a interrupted", "0001-a/attempts": "1", "0001-a/result": "failed", "0002-b/result": "skipped"},
		},
		"power is lost and it is tried again": {
			[]op.Firstboot{{Name: "a", Command: say("a") + `test $(wc -l <"$SEEN") = 3 || kill -9 $PPID`, Retries: 5}, {Name: "b", Command: say("b")}}, 3, "a a a b", 0,
			map[string]string{"result": "ok", "0001-a/attempts": "3", "0002-b/attempts": "1"},
		},
		"what is done is not done again": {
			[]op.Firstboot{{Name: "a", Command: say("a")}, {Name: "b", Command: say("b") + `test $(wc -l <"$SEEN") = 3 || kill -9 $PPID`, Retries: 1}}, 2, "a b b", 0,
			map[string]string{"result": "ok", "0001-a/attempts": "1", "0002-b/attempts": "2"},
		},
		"a script has no input and keeps its quotes": {
			[]op.Firstboot{{Name: "a", Script: "#!/bin/sh\nif read -r line; then exit 1; fi\necho 'a  b' \"$(echo c)\" >>\"$SEEN\""}}, 1, "a  b c", 0,
			map[string]string{"result": "ok"},
		},
		"a program that is not there": {
			[]op.Firstboot{{Name: "a", Script: "#!/no/such/program\n"}}, 1, "", 1, map[string]string{"result": "failed a 127"},
		},
	} {
		for shell, args := range map[string][]string{"dash": {"dash"}, "busybox": {"busybox", "sh"}} {
			t.Run(name+" by "+shell, func(t *testing.T) {
				t.Parallel()
				peer.NeedTool(t, args[0])
				b := boots{newGuest(t), args}
				for _, o := range c.scripts {
					peer.Must(t, Apply(t.Context(), b.Guest, &o))
				}
				output, status := "", 0
				for range c.boots {
					output, status = b.boot(t)
				}
				seen, _ := os.ReadFile(filepath.Join(b.dir, "seen"))
				if got := strings.ReplaceAll(strings.TrimSpace(string(seen)), "\n", " "); got != c.seen || status != c.status {
					t.Errorf("seen %q, status %d; want %q, %d\n%s", got, status, c.seen, c.status, output)
				}
				b.expect(t, c.files)
				b.gone(t)
			})
		}
	}
}

// The output of a script is in its log and on the console.
func TestTheFirstBootKeepsTheOutput(t *testing.T) {
	b := boots{newGuest(t), []string{"sh"}}
	peer.Must(t, Apply(t.Context(), b.Guest, &op.Firstboot{Name: "talk", Command: "echo out; echo err >&2"}))
	output, _ := b.boot(t)
	for where, text := range map[string]string{"the log": b.state("0001-talk/log"), "the console": output} {
		if !strings.Contains(text, "out\nerr\n") {
			t.Errorf("%s has %q", where, text)
		}
	}
	for _, name := range []string{"started", "ended"} {
		if !strings.HasSuffix(b.state("0001-talk/"+name), "Z") {
			t.Errorf("%s is %q", name, b.state("0001-talk/"+name))
		}
	}
}

// An image that was booted and is made into another one: what failed then is
// history, and what is new is done.
func TestASecondFirstBoot(t *testing.T) {
	b := boots{newGuest(t), []string{"sh"}}
	peer.Must(t, Apply(t.Context(), b.Guest, &op.Firstboot{Name: "a", Command: "false"}))
	if _, status := b.boot(t); status != 1 || b.state("result") != "failed a 1" {
		t.Fatalf("status %d, result %q", status, b.state("result"))
	}
	peer.Must(t, Apply(t.Context(), b.Guest, &op.Firstboot{Name: "a", Command: "true"}))
	if b.state("result") != "" {
		t.Error("the old result still stands")
	}
	if output, status := b.boot(t); status != 0 {
		t.Errorf("status %d\n%s", status, output)
	}
	b.expect(t, map[string]string{"result": "ok", "0001-a/result": "failed", "0002-a/result": "ok"})
}
