package sysprep

import (
	"context"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/guest/guesttest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// Every operation changes exactly what its golden says, on both trees, and nothing
// more when it is done again.
func TestEachOperation(t *testing.T) {
	for _, o := range op.SysprepOperations {
		if o.Phase != op.SysprepFiles {
			continue
		}
		t.Run(o.Name, func(t *testing.T) {
			t.Parallel()
			var all strings.Builder
			for _, f := range fixtures {
				g := newGuest(t, f.nodes)
				only := &op.Sysprep{Operations: []string{o.Name}}
				got, err := g.changes(t, only)
				peer.Must(t, err)
				all.WriteString("= " + f.name + "\n" + got)
				for _, command := range g.commands {
					all.WriteString("$ " + command + "\n")
				}
				for _, notice := range g.texts(event.Notice) {
					all.WriteString("! " + notice + "\n")
				}
				if again, err := g.changes(t, only); err != nil || again != "" {
					t.Errorf("%s: done again: %v\n%s", f.name, err, again)
				}
			}
			golden(t, o.Name, all.String())
			idle := all.String() == "= debian\n= rocky\n"
			if want := o.Name == "customize" || o.Name == "script"; idle != want {
				t.Errorf("that it changes nothing is %v", idle)
			}
		})
	}
}

// The defaults together, and everything, leave no more than each alone; and a second
// run finds nothing to do.
func TestAllTogether(t *testing.T) {
	for _, f := range fixtures {
		for _, selection := range []string{"defaults", "all"} {
			t.Run(f.name+"-"+selection, func(t *testing.T) {
				t.Parallel()
				g := newGuest(t, f.nodes)
				o := &op.Sysprep{Operations: []string{selection}}
				got, err := g.changes(t, o)
				peer.Must(t, err)
				golden(t, f.name+"-"+selection, got)
				commands := len(g.commands)
				if again, err := g.changes(t, o); err != nil || again != "" || len(g.commands) != commands {
					t.Errorf("done again: %v %v\n%s", err, g.commands[commands:], again)
				}
			})
		}
	}
}

func TestTheTableIsCarriedOut(t *testing.T) {
	names := slices.Collect(maps.Keys(operations))
	for _, o := range op.SysprepOperations {
		_, there := operations[o.Name]
		if want := o.Phase == op.SysprepFiles && o.Name != "script"; there != want {
			t.Errorf("%s: a way to carry it out: %v, want %v", o.Name, there, want)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == o.Name })
	}
	if len(names) > 0 {
		t.Errorf("no operation of the vocabulary: %v", names)
	}
}

func TestItSaysWhatItDoesInOrder(t *testing.T) {
	g := newGuest(t, debian)
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Sysprep{Operations: []string{"utmp,logfiles", "lvm-uuids,customize,machine-id"}}))
	if got := strings.Join(g.texts(event.Phase), ", "); got != "sysprep logfiles, sysprep machine-id, sysprep utmp, sysprep customize" {
		t.Errorf("phases %s", got)
	}
}

func TestAnEmptyTreeStaysEmpty(t *testing.T) {
	g := newGuest(t, nil)
	got, err := g.changes(t, &op.Sysprep{Operations: []string{"all,-flag-reconfiguration"}})
	if err != nil || got != "" {
		t.Errorf("%v\n%s", err, got)
	}
}

// level lists the names of a tree at a depth: files, and directories with what is
// below them.
func level(nodes []node, depth int) []string {
	names := map[string]bool{}
	for _, n := range nodes {
		parts := strings.Split(strings.Trim(n.Path, "/"), "/")
		if len(parts) >= depth {
			names["/"+path.Join(parts[:depth]...)] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// At each depth, every directory and every file is made a link out of the tree, to
// its like in a tree outside. Whatever an operation then does, nothing there changes.
func TestNoLinkLeadsOut(t *testing.T) {
	for _, f := range fixtures {
		for how, prefix := range map[string]string{"absolute": "", "climbing": strings.Repeat("../", 30)} {
			t.Run(f.name+"-"+how, func(t *testing.T) {
				t.Parallel()
				outside := guesttest.Sandbox(t)
				guesttest.Plant(t, outside, f.nodes)
				before := guesttest.Snapshot(t, outside)
				for depth := 1; len(level(f.nodes, depth)) > 0; depth++ {
					g := newGuest(t, f.nodes)
					for _, name := range level(f.nodes, depth) {
						peer.Must(t, os.RemoveAll(filepath.Join(g.dir, name)))
						peer.Must(t, os.Symlink(prefix+outside+name, filepath.Join(g.dir, name)))
					}
					for _, o := range op.SysprepOperations {
						g.Runner = nil
						if err := Apply(t.Context(), g.Guest, &op.Sysprep{Enable: []string{o.Name}}); err != nil {
							t.Logf("depth %d: %v", depth, err) // an error is an answer, too
						}
					}
				}
				if got := guesttest.Diff(before, guesttest.Snapshot(t, outside)); got != "" {
					t.Errorf("it got out:\n%s", got)
				}
			})
		}
	}
}

func TestLoopsOfLinksAreNoTrouble(t *testing.T) {
	g := newGuest(t, []node{
		{Path: "/tmp", Link: "tmp"}, {Path: "/var/log", Link: "../var/log"}, {Path: "/etc/ssh", Link: "/etc/ssh"}, {Path: "/home", Link: "/root"}, {Path: "/root", Link: "/home"},
		{Path: "/var/lib/dhcp", Link: "dhcp"}, {Path: "/var/spool/cron", Link: "cron"}, {Path: "/etc/pki", Link: "pki"}, {Path: "/etc/machine-id", Link: "machine-id"},
		{Path: "/etc/iscsi/initiatorname.iscsi", Link: "initiatorname.iscsi"}, {Path: "/etc/hosts", Link: "hosts"}, {Path: "/var/lib/snapd", Link: "snapd"},
	})
	got, err := g.changes(t, &op.Sysprep{Operations: []string{"all,-flag-reconfiguration"}})
	if err != nil || got != "" {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestTrustIsRenewedByTheGuest(t *testing.T) {
	for name, c := range map[string]struct {
		nodes []node
		want  []string
	}{"rocky": {rocky, []string{"update-ca-trust extract"}}, "debian": {debian, []string{"update-ca-certificates"}}, "nothing": {common, nil}} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, c.nodes)
			peer.Must(t, Apply(t.Context(), g.Guest, &op.Sysprep{Operations: []string{"ipa-client"}}))
			if !slices.Equal(g.commands, c.want) {
				t.Errorf("ran %q, want %q", g.commands, c.want)
			}
		})
	}
}

func TestTrustThatCannotBeRenewed(t *testing.T) {
	g := newGuest(t, rocky)
	g.status = 3
	err := Apply(t.Context(), g.Guest, &op.Sysprep{Operations: []string{"ca-certificates"}})
	if err == nil || err.Error() != "sysprep: renew the trusted certificates: update-ca-trust ended with status 3" {
		t.Errorf("error %v", err)
	}
	g = newGuest(t, rocky)
	g.Runner = nil
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Sysprep{Operations: []string{"ca-certificates"}}))
	if notices := g.texts(event.Notice); len(notices) != 1 || !strings.Contains(notices[0], "update-ca-trust is to be run") {
		t.Errorf("notices %q", notices)
	}
}

// Scripts run in the guest's root, by its shell, one after the other.
func TestScripts(t *testing.T) {
	g := newGuest(t, debian)
	guesttest.Bring(t, g.dir, "dash", "touch")
	g.Runner = &guest.Chroot{Dir: g.dir, Sink: g.hear}
	got, err := g.changes(t, &op.Sysprep{Operations: []string{"script"}, Scripts: []string{"touch /srv/one\n", "test -e /srv/one && touch /srv/two"}})
	peer.Must(t, err)
	if got != "+ /srv/one 100644 0:0 0 \"\"\n+ /srv/two 100644 0:0 0 \"\"\n" {
		t.Errorf("changed\n%s", got)
	}
	_, err = g.changes(t, &op.Sysprep{Operations: []string{"script"}, Scripts: []string{"true", "true\nfalse\ntouch /srv/three"}})
	if err == nil || err.Error() != "sysprep script: script 2: the script ended with status 1 at line 2: false" {
		t.Errorf("error %v", err)
	}
	if g.Root.Exists("/srv/three") {
		t.Error("a script went on behind a failing line")
	}
}

func TestScriptsNeedSomethingThatRunsThem(t *testing.T) {
	g := newGuest(t, debian)
	g.Runner = nil
	if err := Apply(context.Background(), g.Guest, &op.Sysprep{Scripts: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "nothing can be run") {
		t.Errorf("error %v", err)
	}
}

func TestUninitializedMachineID(t *testing.T) {
	g := newGuest(t, debian)
	got, err := g.changes(t, &op.Sysprep{Operations: []string{"machine-id"}, MachineID: op.UninitializedMachineID})
	peer.Must(t, err)
	golden(t, "machine-id-uninitialized", got)
	g = newGuest(t, []node{{Path: "/etc/machine-id", Link: "passwd"}, {Path: "/etc/passwd", Content: "x"}})
	if got, err := g.changes(t, &op.Sysprep{Operations: []string{"machine-id"}}); err != nil || got != "" {
		t.Errorf("a link: %v\n%s", err, got)
	}
}

// Systems that are like debian but for a few files; one without content is not there.
func TestHostKeysComeBack(t *testing.T) {
	const initScript = "/etc/init.d/ssh"
	for name, more := range map[string][]node{
		"suse":            {{Path: "/usr/lib/systemd/system/sshd.service", Content: "[Service]\nExecStartPre=/usr/sbin/sshd-gen-keys-start\n"}, {Path: "/etc/ssh/sshd_config.d/site.conf", Content: "Port 22\n"}, {Path: "/etc/ssh/sshd_config", Content: "Port 22\n"}},
		"suse-named":      {{Path: "/usr/lib/systemd/system/sshd.service", Content: "[Service]\nExecStartPre=/usr/sbin/sshd-gen-keys-start\n"}, {Path: "/etc/ssh/sshd_config.d/site.conf", Content: "Port 22\n"}},
		"debian-13":       {{Path: "/usr/lib/systemd/system/sshd-keygen.service", Content: "[Unit]\nConditionFirstBoot=yes\n\n[Service]\nExecStart=ssh-keygen -A\n"}},
		"arch":            {{Path: "/usr/lib/systemd/system/sshd.service", Content: "[Unit]\nWants=sshdgenkeys.service\n"}, {Path: "/etc/ssh/sshd_config.d/site.conf", Content: "Port 22\n"}},
		"suse-custom":     {{Path: "/usr/lib/systemd/system/sshd.service", Content: "[Service]\nExecStartPre=/usr/sbin/sshd-gen-keys-start\n"}},
		"without-sshd":    {{Path: "/usr/sbin/sshd"}},
		"devuan":          {{Path: "/usr/lib/systemd/systemd"}, {Path: initScript, Content: "test -f /etc/default/ssh && . /etc/default/ssh\n"}},
		"devuan-settings": {{Path: "/usr/lib/systemd/systemd"}, {Path: initScript, Content: ". /etc/default/ssh\n"}, {Path: "/etc/default/ssh", Content: "SSHD_OPTS="}},
		"alpine":          {{Path: "/usr/lib/systemd/systemd"}, {Path: initScript, Content: "ssh-keygen -A\n"}},
		"unknown":         {{Path: "/usr/lib/systemd/systemd"}, {Path: initScript, Content: "sshd\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, debian)
			for _, n := range more {
				peer.Must(t, os.RemoveAll(filepath.Join(g.dir, n.Path)))
				if n.Content != "" {
					guesttest.Plant(t, g.dir, []node{n})
				}
			}
			o := &op.Sysprep{Operations: []string{"ssh-hostkeys"}}
			got, err := g.changes(t, o)
			peer.Must(t, err)
			for _, notice := range g.texts(event.Notice) {
				got += "! " + notice + "\n"
			}
			golden(t, "ssh-hostkeys-"+name, got)
			if again, err := g.changes(t, o); err != nil || again != "" {
				t.Errorf("done again: %v\n%s", err, again)
			}
		})
	}
}

func FuzzNamedHostKeys(f *testing.F) {
	for _, text := range []string{"", "HostKey", "HostKey /a", "hostkey=\"/a\"\r\n#HostKey /b\nHostKey none\n  HOSTKEY\t/c # more", "HostKeyAgent /x", "=\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range namedHostKeys(text) {
			if name == "" || strings.ContainsAny(name, " \t\r\n\"=") {
				t.Errorf("%q has the key %q", text, name)
			}
		}
	})
}

func TestNamedHostKeys(t *testing.T) {
	got := namedHostKeys("Port 22\nHostKey /a\nhostkey = \"/b\"\r\n#HostKey /c\nHostKey none\n\tHOSTKEY\t/d # more\nHostKeyAgent /e\nHostKey")
	if want := []string{"/a", "/b", "/d"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAnISCSINameThatNothingMakesIsTold(t *testing.T) {
	g := newGuest(t, []node{{Path: "/etc/iscsi/initiatorname.iscsi", Content: "InitiatorName=iqn.x\n"}})
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Sysprep{Operations: []string{"storage-ids"}}))
	if notices := g.texts(event.Notice); len(notices) != 1 || !strings.Contains(notices[0], "iscsid will not start") || g.Root.Exists("/etc/iscsi/initiatorname.iscsi") {
		t.Errorf("notices %q", notices)
	}
}

func TestAHostKeyThatCannotComeBackIsNotRemoved(t *testing.T) {
	for line, message := range map[string]string{
		"HostKey /etc/ssh/100%\n":   `/etc/ssh/sshd_config.d/odd.conf names the host key "/etc/ssh/100%"`,
		"hostkey=/etc/ssh/to-key\n": "/etc/ssh/sshd_config.d/odd.conf names the host key /etc/ssh/to-key, which is a link",
	} {
		g := newGuest(t, append(slices.Clone(debian), node{Path: "/etc/ssh/sshd_config.d/odd.conf", Content: line}, node{Path: "/etc/ssh/to-key", Link: "keys/site_ecdsa"}))
		got, err := g.changes(t, &op.Sysprep{Operations: []string{"ssh-hostkeys"}})
		if err == nil || !strings.Contains(err.Error(), message) || got != "" {
			t.Errorf("%v\n%s", err, got)
		}
	}
}

// The unit is one that systemd understands, without a cycle.
func TestTheUnitOfHostKeysIsGood(t *testing.T) {
	peer.NeedTool(t, "systemd-analyze")
	dir := t.TempDir()
	name := filepath.Join(dir, "herdbook-ssh-hostkeys.service")
	// Its programs may not be installed here.
	text := strings.ReplaceAll(hostKeysService(true, []string{"/etc/ssh/keys/a_rsa"}), "/usr/bin/ssh-keygen", "/bin/true")
	peer.Must(t, os.WriteFile(name, []byte(text), 0o644))
	if out := peer.Run(t, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", name); strings.Contains(out, "herdbook") {
		t.Errorf("%s", out)
	}
}

func TestUserAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		o    op.Sysprep
		more []node
	}{
		"keep":          {op.Sysprep{KeepUserAccounts: []string{"alice,web"}}, nil},
		"remove":        {op.Sysprep{RemoveUserAccounts: []string{"bob", "daemon", "none"}}, nil},
		"both":          {op.Sysprep{RemoveUserAccounts: []string{"bob,alice"}, KeepUserAccounts: []string{"bob"}}, nil},
		"no-login-defs": {op.Sysprep{}, []node{{Path: "/etc/login.defs"}}},
		"other-range":   {op.Sysprep{}, []node{{Path: "/etc/login.defs", Content: "UID_MIN 500\nUID_MAX 1000\n"}}},
		"odd-names": {op.Sysprep{}, []node{{Path: "/etc/passwd", Content: "root:x:0:0::/root:/bin/sh\n../../etc:x:1000:1000::/home/x:/bin/sh\n..:x:1001:1001::relative:/bin/sh\n" +
			"slash:x:1002:1002::/:/bin/sh\nhome:x:1003:1003::/home:/bin/sh\nusr:x:1004:1004::/home/../usr/lib:/bin/sh\n:x:1005:1005::/srv/git:/bin/sh\n+nis:x:1006:1006::/data:/bin/sh\n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, debian)
			for _, n := range c.more {
				peer.Must(t, os.RemoveAll(filepath.Join(g.dir, n.Path)))
				if n.Content != "" {
					guesttest.Plant(t, g.dir, []node{n})
				}
			}
			c.o.Operations = []string{"user-account"}
			got, err := g.changes(t, &c.o)
			peer.Must(t, err)
			for _, notice := range g.texts(event.Notice) {
				got += "! " + notice + "\n"
			}
			golden(t, "user-account-"+name, got)
		})
	}
}

func TestBrokenFilesAreSaid(t *testing.T) {
	for place, c := range map[string]struct{ operation, content, message string }{
		"/var/lib/snapd/state.json": {"snapd", `{"data":[]}`, "sysprep snapd: read snapd's state: "},
		"/etc/login.defs":           {"user-account", "UID_MIN many\n", `sysprep user-account: /etc/login.defs says UID_MIN "many"`},
	} {
		g := newGuest(t, debian)
		peer.Must(t, os.WriteFile(filepath.Join(g.dir, place), []byte(c.content), 0o600))
		got, err := g.changes(t, &op.Sysprep{Operations: []string{c.operation}})
		if err == nil || !strings.HasPrefix(err.Error(), c.message) {
			t.Errorf("%s: %v", place, err)
		}
		if c.operation != "snapd" && got != "" {
			t.Errorf("%s: it failed and still changed\n%s", place, got)
		}
	}
}

// FuzzWithout holds the surgery on snapd's state: it never panics, and what it makes
// has none of the members.
func FuzzWithout(f *testing.F) {
	for _, text := range []string{snapdText, "", "{}", `{"data":{"auth":null}}`, `{"data":{"auth":{"device":[]}}}`, `{"data":1}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := []string{"data", "auth", "device"}
		changed, err := without(&text, path, "serial", "key-id")
		if err != nil || !changed {
			return
		}
		if again, err := without(&text, path, "serial", "key-id"); err != nil || again {
			t.Errorf("again: %v %v", again, err)
		}
	})
}
