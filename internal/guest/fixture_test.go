package guest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/guest/guesttest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// node is one file of the fixture: a directory if its path ends in /, a link if
// it has a target, else a file.
type node struct {
	path     string
	mode     uint32
	uid, gid int
	content  string
	link     string
}

const (
	passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnot a line\n" +
		"www-data:x:33:34:www:/var/www:/usr/sbin/nologin\ndeploy:x:1000:1001:,,,:/home/deploy:/bin/sh\nghost:x:1002:1002::/home/ghost:/bin/sh\n"
	group     = "root:x:0:\ndaemon:x:1:\nadm:x:4:daemon\nsudo:x:27:\nwww-data:x:34:\nshadow:x:42:\ndeploy:x:1001:\nghost:x:1002:\n"
	shadow    = "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\ndeploy:$6$salt$hash:19000:0:99999:7:::\nghost:!:19000:0:99999:7:::\n"
	hosts     = "127.0.0.1\tlocalhost\n127.0.1.1\told-name old\n127.0.1.10\tprinter\n127.0.0.12 scanner\n\n# IPv6\n::1     localhost ip6-localhost ip6-loopback\n"
	deployKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH9kTFTz0HKuxYAyr5QqZfYdAFgnUdy6HNi3V0rlhGrU deploy@example.org"
)

// debian is a small tree in the manner of Debian.
var debian = []node{
	{path: "/bin", link: "usr/bin"}, {path: "/sbin", link: "usr/sbin"}, {path: "/lib", link: "usr/lib"}, {path: "/lib64", link: "usr/lib64"},
	{path: "/dev/", mode: 0o755}, {path: "/proc/", mode: 0o555}, {path: "/sys/", mode: 0o555}, {path: "/run/", mode: 0o755},
	{path: "/root/", mode: 0o700}, {path: "/root/.bashrc", content: "PS1=#\n"}, {path: "/root/install.log", content: "log"},
	{path: "/usr/bin/apt-get", mode: 0o755, content: "#!/bin/sh\n"}, {path: "/usr/bin/systemctl", mode: 0o755, content: "#!/bin/sh\n"},
	{path: "/usr/sbin/sshd", mode: 0o755, content: "#!/bin/sh\n"}, {path: "/usr/sbin/nologin", mode: 0o755, content: "#!/bin/sh\nexit 1\n"},
	{path: "/usr/lib64/", mode: 0o755}, {path: "/usr/lib/systemd/systemd", mode: 0o755, content: "ELF"},
	{path: "/usr/lib/systemd/system/ssh.service", content: "[Unit]\n"},
	{path: "/usr/share/zoneinfo/Europe/Berlin", content: "TZif2 CET"}, {path: "/usr/share/zoneinfo/Etc/UTC", content: "TZif2 UTC"},
	{path: "/usr/share/zoneinfo/UTC", link: "Etc/UTC"}, {path: "/usr/share/doc/curl/README", content: "curl"}, {path: "/usr/share/doc/bash/README", content: "bash"},
	{path: "/etc/passwd", content: passwd}, {path: "/etc/group", content: group}, {path: "/etc/shadow", mode: 0o640, gid: 42, content: shadow},
	{path: "/etc/gshadow", mode: 0o640, gid: 42, content: "root:*::\n"}, {path: "/etc/debian_version", content: "12.5\n"},
	{path: "/etc/hostname", content: "old-name\n"}, {path: "/etc/hosts", content: hosts}, {path: "/etc/machine-id", mode: 0o444, content: "0123456789abcdef0123456789abcdef\n"},
	{path: "/etc/localtime", link: "/usr/share/zoneinfo/Etc/UTC"}, {path: "/etc/timezone", content: "Etc/UTC\n"},
	{path: "/etc/os-release", link: "../usr/lib/os-release"}, {path: "/usr/lib/os-release", content: "ID=debian\nVERSION_ID=\"12\"\n"},
	{path: "/etc/resolv.conf", link: "/run/systemd/resolve/stub-resolv.conf"}, {path: "/etc/fstab", content: "UUID=x / ext4 defaults 0 1\n"},
	{path: "/etc/motd", mode: 0o640, gid: 4, content: "Welcome\n"}, {path: "/etc/issue", link: "/usr/lib/issue"}, {path: "/usr/lib/issue", content: "Debian\n"},
	{path: "/etc/alternatives/editor", link: "/usr/bin/nano"}, {path: "/etc/systemd/system/multi-user.target.wants/", mode: 0o755},
	{path: "/etc/ssh/sshd_config", content: "Port 22\n"}, {path: "/etc/ssh/ssh_host_ed25519_key", mode: 0o600, content: "private"},
	{path: "/etc/ssh/ssh_host_ed25519_key.pub", content: "public"}, {path: "/etc/ssh/ssh_host_rsa_key", mode: 0o600, content: "private"},
	{path: "/home/deploy/", mode: 0o750, uid: 1000, gid: 1001}, {path: "/home/deploy/.profile", uid: 1000, gid: 1001, content: "# profile\n"},
	{path: "/home/deploy/.ssh/", mode: 0o700, uid: 1000, gid: 1001},
	{path: "/home/deploy/.ssh/authorized_keys", mode: 0o600, uid: 1000, gid: 1001, content: "# kept\n\nssh-rsa AAAA old@host\n"},
	{path: "/var/www/", mode: 0o755, uid: 33, gid: 34}, {path: "/var/run", link: "/run"}, {path: "/var/mail/", mode: 0o2775, gid: 8},
	{path: "/var/cache/apt/archives/curl_1_amd64.deb", content: "deb"}, {path: "/var/cache/apt/archives/lock", mode: 0o640, content: ""},
	{path: "/var/cache/apt/archives/partial/", mode: 0o700, uid: 42}, {path: "/var/cache/apt/archives/partial/x.deb", content: "half"},
	{path: "/var/cache/apt/pkgcache.bin", content: "cache"}, {path: "/var/cache/apt/srcpkgcache.bin", content: "cache"},
	{path: "/var/cache/man/index.db", content: "db"}, {path: "/var/cache/debconf/config.dat", content: "kept"},
	{path: "/var/lib/apt/lists/deb.debian.org_dists_Packages", content: "Package: x\n"}, {path: "/var/lib/apt/lists/partial/", mode: 0o700, uid: 42},
	{path: "/var/lib/apt/extended_states", content: "kept"}, {path: "/var/lib/dpkg/status", content: "Package: base-files\n"},
	{path: "/var/lib/dhcp/dhclient.eth0.leases", content: "lease"}, {path: "/var/lib/NetworkManager/a.lease", content: "lease"},
	{path: "/var/lib/NetworkManager/state", content: "kept"}, {path: "/var/lib/dbus/machine-id", link: "/etc/machine-id"},
	{path: "/var/lib/systemd/random-seed", mode: 0o600, content: "entropy"}, {path: "/var/lib/logrotate/status", content: "rotated"},
	{path: "/var/log/", mode: 0o755}, {path: "/var/log/syslog", mode: 0o640, gid: 4, content: "log"}, {path: "/var/log/syslog.1", content: "log"},
	{path: "/var/log/dpkg.log", content: "log"}, {path: "/var/log/.hidden.log", content: "log"}, {path: "/var/log/app.log.2.gz", content: "log"},
	{path: "/var/log/btmp", mode: 0o660, gid: 43, content: "bad logins"}, {path: "/var/log/wtmp", mode: 0o664, gid: 43, content: "logins"},
	{path: "/var/log/lastlog", mode: 0o664, gid: 43, content: "last"}, {path: "/var/log/journal/", mode: 0o2755, gid: 101},
	{path: "/var/log/journal/0123/system.journal", content: "journal"}, {path: "/var/log/apt/history.log", content: "log"},
	{path: "/var/log/apache2/access_log", content: "log"}, {path: "/var/log/apache2/README", content: "kept"}, {path: "/var/log/private/", mode: 0o700},
	{path: "/tmp/", mode: 0o1777}, {path: "/tmp/file", content: "x"}, {path: "/tmp/.X0-lock", content: "x"}, {path: "/tmp/..odd", content: "x"},
	{path: "/tmp/dir/deep/file", content: "x"}, {path: "/tmp/out", link: "/etc/passwd"}, {path: "/var/tmp/", mode: 0o1777}, {path: "/var/tmp/.a", content: "x"},
	{path: "/opt/tool/bin/tool", mode: 0o4755, content: "tool"}, {path: "/srv/", mode: 0o755},
}

// plant makes a tree below dir. Parents that are not listed belong to root.
func plant(t testing.TB, dir string, nodes []node) {
	t.Helper()
	var list []guesttest.Node
	for _, n := range nodes {
		list = append(list, guesttest.Node{Path: n.path, Mode: n.mode, UID: n.uid, GID: n.gid, Content: n.content, Link: n.link})
	}
	guesttest.Plant(t, dir, list)
}

func sandbox(t testing.TB) string { t.Helper(); return guesttest.Sandbox(t) }

func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	return guesttest.Snapshot(t, dir)
}

func diff(before, after map[string]string) string { return guesttest.Diff(before, after) }

// guestTest is a guest on a fixture, and what was seen and run on it.
type guestTest struct {
	*Guest
	dir    string
	mu     sync.Mutex
	events []event.Event
}

// newGuest makes a guest of a tree; more is planted on top of it.
func newGuest(t testing.TB, more ...node) *guestTest {
	t.Helper()
	g := &guestTest{dir: sandbox(t)}
	plant(t, g.dir, append(slices.Clone(debian), more...))
	root, err := OpenRoot(g.dir)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, root.Close()) })
	g.Guest = &Guest{Root: root, Sink: g.hear}
	return g
}

func (g *guestTest) hear(e event.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
}

// lines are those of one stream, as far as they were heard.
func (g *guestTest) lines(stream string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var lines []string
	for _, e := range g.events {
		if e.Kind == event.Log && e.Stream == stream {
			lines = append(lines, e.Text)
		}
	}
	return lines
}

// chroot gives the guest real programs of this machine, with their libraries,
// and the real runner.
func (g *guestTest) chroot(t testing.TB, redact []string, programs ...string) {
	t.Helper()
	guesttest.Bring(t, g.dir, programs...)
	g.Runner = &Chroot{Dir: g.dir, Redact: redact, Sink: g.hear}
}

// recorder is a Runner that runs nothing: it notes what it was asked for.
type recorder struct {
	commands []Command
	fail     int // status of the last program of failing
	failing  string
	err      error
}

var _ Runner = (*recorder)(nil)

// Run implements Runner.
func (r *recorder) Run(_ context.Context, c Command) (int, error) {
	r.commands = append(r.commands, c)
	if r.failing != "" && slices.Contains(c.Args, r.failing) {
		return r.fail, r.err
	}
	return 0, nil
}

// String shows every command with a quoted line for each argument.
func (r *recorder) String() string {
	var b strings.Builder
	for _, c := range r.commands {
		fmt.Fprintf(&b, "$ %s", strings.Join(c.Args, " "))
		if len(c.Environment) > 0 || c.Stdin != "" {
			fmt.Fprintf(&b, "  environment %q stdin %q", c.Environment, c.Stdin)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// changes carries an operation out and returns what it did to the tree.
func (g *guestTest) changes(t testing.TB, o op.Operation) (string, error) {
	t.Helper()
	return guesttest.Changes(t, g.dir, func() error { return Apply(t.Context(), g.Guest, o) })
}

// golden carries an operation out, which must succeed, and holds what it did to
// the tree against testdata/KIND/CASE.golden.
func (g *guestTest) golden(t *testing.T, name string, o op.Operation) {
	t.Helper()
	if problems := o.Check(); len(problems) > 0 {
		t.Fatalf("the test's own operation has problems: %v", problems)
	}
	got, err := g.changes(t, o)
	if err != nil {
		t.Fatal(err)
	}
	peer.Golden(t, filepath.Join(o.Kind(), name+".golden"), []byte(got))
}

// refuse carries an operation out that must fail with a message and leave the
// tree as it was.
func (g *guestTest) refuse(t *testing.T, o op.Operation, message string) {
	t.Helper()
	got, err := g.changes(t, o)
	if err == nil || !strings.Contains(err.Error(), message) {
		t.Errorf("error %v, want one with %q", err, message)
	}
	if got != "" {
		t.Errorf("it failed and still changed:\n%s", got)
	}
}
