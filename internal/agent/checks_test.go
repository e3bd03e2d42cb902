package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/wire"
)

// command is a check of one command.
func command(c op.CommandCheck) wire.Check {
	return wire.Check{Kind: "command", Timeout: time.Minute, Commands: []op.CommandCheck{c}}
}

func TestACommandIsJudged(t *testing.T) {
	for _, c := range []struct {
		check  op.CommandCheck
		output string
		want   []string // parts of the text; none: it passes
	}{
		{op.CommandCheck{Run: "echo out; echo err >&2"}, "out\nerr\n", nil},
		{op.CommandCheck{Run: "exit 7", ExitStatus: 7}, "", nil},
		{op.CommandCheck{Run: "echo moo", Expect: "^moo$"}, "moo\n", []string{`said "moo", which does not match "^moo$"`}},
		{op.CommandCheck{Run: "echo moo", Expect: "(?m)^moo$"}, "moo\n", nil},
		{op.CommandCheck{Run: "echo three; exit 3", Expect: "four"}, "three\n", []string{
			`the command ended with status 3, want 0; it said: "three"`, `the command said "three", which does not match "four"`}},
		{op.CommandCheck{Name: "number", Run: "exit 1"}, "", []string{`command "number" ended with status 1, want 0; it said: ""`}},
		{op.CommandCheck{Run: "echo tell secret; exit 1"}, "tell ***\n", []string{`it said: "tell ***"`}},
		{op.CommandCheck{Run: "kill -TERM $$"}, "", []string{"ended with status -1, want 0"}},
		{op.CommandCheck{Run: "no-such-program-here", ExitStatus: 127, Expect: "not found"}, "not found", nil},
		{op.CommandCheck{Run: "printf 'bad \\377 byte'"}, "bad � byte", nil},
		// What it leaves behind holds its output open, but not the test.
		{op.CommandCheck{Run: "echo started; sleep 30 &"}, "started\n", nil},
		{op.CommandCheck{Run: "head -c 100000 /dev/zero | tr '\\0' x; echo end", Expect: "end"}, "xxx", []string{`does not match "end"; only the first 64 KiB of what it said were looked at`}},
		{op.CommandCheck{Run: "id", User: "no-such-account"}, "", []string{"the command: run as no-such-account: user: unknown user"}},
		{op.CommandCheck{Run: `echo "$HOME $USER $LOGNAME"; pwd`}, "/root root root\n", nil},
	} {
		v := ask(command(c.check), wire.Result{}, []string{"secret"})
		if len(v.Cases) != 1 || v.Hung || v.Text != "" {
			t.Fatalf("%s: %+v", c.check.Run, v)
		}
		got := v.Cases[0]
		if v.Passed() != (c.want == nil) || (got.Outcome == event.Passed) != (c.want == nil) || !strings.Contains(got.Output, c.output) {
			t.Errorf("%s: %+v, want %q and %q", c.check.Run, got, c.output, c.want)
		}
		for _, want := range c.want {
			if !strings.Contains(got.Text, want) {
				t.Errorf("%s: %s; want %q in it", c.check.Run, got.Text, want)
			}
		}
		if strings.Contains(fmt.Sprintf("%+v", v), "secret") {
			t.Errorf("%s: the secret shows: %+v", c.check.Run, v)
		}
	}
	v := ask(command(op.CommandCheck{Run: "head -c 300000 /dev/zero | tr '\\0' x"}), wire.Result{}, nil)
	if len(v.Cases[0].Output) != wire.MaxOutput || !v.Passed() {
		t.Errorf("a long output: %d bytes, %+v", len(v.Cases[0].Output), v.Err())
	}
	if long := short(strings.Repeat("ä", 10000), nil); len(long) > 400 || !strings.HasPrefix(long, `"…`) {
		t.Errorf("short: %d bytes", len(long))
	}
}

func TestACommandRunsAsItsUser(t *testing.T) {
	peer.NeedRoot(t, "another account")
	_, err := user.Lookup("nobody")
	peer.Need(t, err == nil, "there is no account nobody")
	v := ask(command(op.CommandCheck{Run: `id -un; echo "$USER"; test -w / && echo mighty`, User: "nobody", ExitStatus: 1}), wire.Result{}, nil)
	if v.Cases[0].Output != "nobody\nnobody\n" || !v.Passed() {
		t.Errorf("%+v", v)
	}
}

// At its deadline a test ends, with all that it started.
func TestATestThatHangs(t *testing.T) {
	start, pids := time.Now(), filepath.Join(t.TempDir(), "pids")
	check := command(op.CommandCheck{Run: fmt.Sprintf("echo begun; sleep 1000 & echo $! $$ > %s; wait", pids)})
	check.Timeout = time.Second
	v := ask(check, wire.Result{}, nil)
	if !v.Hung || v.Passed() || v.Cases[0].Text != `the command: it was not done after 1s; it said: "begun"` || v.Cases[0].Output != "begun\n" {
		t.Errorf("%+v", v)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	text, err := os.ReadFile(pids)
	peer.Must(t, err)
	for _, pid := range strings.Fields(string(text)) {
		if state, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(state), ") Z ") {
			t.Errorf("process %s is left: %s", pid, state)
		}
	}
}

func TestBootsIsJudged(t *testing.T) {
	check := wire.Check{Kind: "boots", Timeout: time.Minute, Commands: []op.CommandCheck{{Name: "a", Run: "true"}, {Name: "b", Run: "exit 2"}}}
	for name, c := range map[string]struct {
		boot wire.Result
		want string
	}{
		"well":   {wire.Result{State: "running"}, ""},
		"failed": {wire.Result{State: "degraded", Failed: []string{"a.service", "b.mount"}}, "failed units: a.service, b.mount\n"},
		"never":  {wire.Result{State: "starting"}, "the system came to the state \"starting\"\n"},
	} {
		v := ask(check, c.boot, nil)
		if err := v.Err(); err == nil || err.Error() != c.want+`command "b" ended with status 2, want 0; it said: ""` {
			t.Errorf("%s: %v", name, err)
		}
		if len(v.Cases) != 3 || v.Cases[0].Name != "boot" || v.Cases[1].Outcome != event.Passed {
			t.Errorf("%s: %+v", name, v.Cases)
		}
	}
	if v := ask(wire.Check{Kind: "moos", Timeout: time.Minute}, wire.Result{}, nil); v.Passed() || !strings.Contains(v.Text, `no test "moos"`) {
		t.Errorf("an unknown kind: %+v", v)
	}
}

// port is a check of one port.
func port(protocol, address string, number int, open bool) wire.Check {
	return wire.Check{Kind: "port", Timeout: time.Minute, Port: &op.PortCheck{Port: number, Protocol: protocol, Address: address, Open: open, Wait: 100 * time.Millisecond}}
}

// Real sockets of this host, of both protocols and families.
func TestPorts(t *testing.T) {
	listen := func(network, address string) int {
		t.Helper()
		if strings.HasPrefix(network, "udp") {
			conn, err := net.ListenPacket(network, address)
			peer.Must(t, err)
			t.Cleanup(func() { conn.Close() })
			return conn.LocalAddr().(*net.UDPAddr).Port
		}
		l, err := net.Listen(network, address)
		peer.Must(t, err)
		t.Cleanup(func() { l.Close() })
		return l.Addr().(*net.TCPAddr).Port
	}
	for _, protocol := range []string{"tcp", "udp"} {
		for _, c := range []struct {
			family, address string
			open, closed    []string // addresses at which it can, and cannot, be reached
		}{
			{"4", "127.0.0.1:0", []string{"", "127.0.0.1"}, []string{"127.0.0.2", "0.0.0.0", "::1"}},
			{"4", "0.0.0.0:0", []string{"", "127.0.0.1", "10.9.8.7", "0.0.0.0", "::ffff:127.0.0.1"}, []string{"::1", "::"}},
			{"6", "[::1]:0", []string{"", "::1"}, []string{"127.0.0.1", "::", "fe80::1"}},
			{"6", "[::]:0", []string{"", "::1", "fe80::1%lo", "::"}, []string{"127.0.0.1", "0.0.0.0"}}, // Go's tcp6 is of IPv6 alone
			{"", "[::]:0", []string{"", "::1", "127.0.0.1", "::"}, nil},                                // and this is of both
		} {
			number := listen(protocol+c.family, c.address)
			for _, address := range c.open {
				if v := ask(port(protocol, address, number, true), wire.Result{}, nil); !v.Passed() {
					t.Errorf("%s%s %s at %q: %v", protocol, c.family, c.address, address, v.Err())
				}
				if v := ask(port(protocol, address, number, false), wire.Result{}, nil); v.Passed() || !strings.Contains(v.Err().Error(), "where nothing may") {
					t.Errorf("%s%s %s at %q is not closed: %v", protocol, c.family, c.address, address, v.Err())
				}
			}
			for _, address := range c.closed {
				if v := ask(port(protocol, address, number, false), wire.Result{}, nil); !v.Passed() {
					t.Errorf("%s%s %s at %q: %v", protocol, c.family, c.address, address, v.Err())
				}
				if v := ask(port(protocol, address, number, true), wire.Result{}, nil); v.Passed() || !strings.Contains(v.Err().Error(), "only at ") || v.Hung {
					t.Errorf("%s%s %s at %q is not open: %+v", protocol, c.family, c.address, address, v)
				}
			}
		}
	}
	// The other protocol's port is another.
	number := listen("tcp4", "127.0.0.1:0")
	if v := ask(port("udp", "127.0.0.1", number, true), wire.Result{}, nil); v.Passed() || v.Err().Error() != fmt.Sprintf("nothing listens on udp/127.0.0.1:%d", number) {
		t.Errorf("%v", v.Err())
	}
}

// A port that opens late is waited for.
func TestAPortThatOpensLate(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	peer.Must(t, err)
	number := l.Addr().(*net.TCPAddr).Port
	peer.Must(t, l.Close())
	opened := make(chan net.Listener, 1)
	timer := time.AfterFunc(2*lookAgain, func() {
		late, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", number))
		if err != nil {
			t.Error(err)
		}
		opened <- late
	})
	defer timer.Stop()
	check := port("tcp", "", number, true)
	check.Port.Wait = time.Minute
	v := ask(check, wire.Result{}, nil)
	if late := <-opened; late != nil {
		peer.Must(t, late.Close())
	}
	if !v.Passed() || v.Elapsed < lookAgain || v.Elapsed > 30*time.Second {
		t.Errorf("%+v", v)
	}
	// The test's deadline is before the end of the wait.
	check.Timeout = 2 * lookAgain
	if v := ask(check, wire.Result{}, nil); v.Passed() || !v.Hung {
		t.Errorf("%+v", v)
	}
}

func TestTablesOfTheKernel(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0200007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 00000000:0051 00000000:0000 0A
   3: 0000000000000000FFFF00000100007F:0050 x 0A
   4: B80D0120000000000000000001000000:0050 x 0A
`
	at, err := sockets(strings.NewReader(table), "0A", 80)
	peer.Must(t, err)
	want := []string{"127.0.0.1", "127.0.0.1", "2001:db8::1"}
	var got []string
	for _, a := range at {
		got = append(got, a.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"x:0050", "00:0050", "0100007F0100007F:0050"} {
		if at, err := sockets(strings.NewReader("0: "+bad+" x 0A\n"), "0A", 80); err == nil {
			t.Errorf("%s: %v", bad, at)
		}
	}
	if _, err := reached([]netip.Addr{{}}, op.PortCheck{Address: "x"}); err == nil {
		t.Error("an address that is none")
	}
	if _, err := listening(filepath.Join(t.TempDir(), "none"), op.PortCheck{Protocol: "tcp", Port: 1}); err != nil {
		t.Errorf("a kernel without networks: %v", err)
	}
}

func FuzzSockets(f *testing.F) {
	f.Add("0: 0100007F:0050 00000000:0000 0A\n")
	f.Add("0: :0050 x 0A\n")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := sockets(strings.NewReader(text), "0A", 80)
		for _, a := range at {
			if err == nil && !a.IsValid() {
				t.Errorf("%q: %v", text, at)
			}
		}
	})
}

func TestUnits(t *testing.T) {
	u := readUnit("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\n")
	if diff := cmp.Diff("failed (failed), exit-code", u.state()); diff != "" || !u.settled() {
		t.Error(diff)
	}
	if u := readUnit("ActiveState=activating\nSubState=auto-restart\nResult=success"); u.settled() || u.state() != "activating (auto-restart)" {
		t.Errorf("%+v", u)
	}
	if u := readUnit(""); u != (unit{}) {
		t.Errorf("%+v", u)
	}
}

// Services that are scripts, as OpenRC's and SysV's are: they are asked by the program,
// and the links say which of them start with the system.
func TestServicesThatAreScripts(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o755))
	}
	link := func(name string) {
		t.Helper()
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		peer.Must(t, os.Symlink("/etc/init.d/x", filepath.Join(root, name)))
	}
	write("etc/init.d/up", "#!/bin/sh\n[ \"$1\" = status ]\n")
	write("etc/init.d/down", "#!/bin/sh\necho down is stopped\nexit 3\n")
	write("etc/init.d/mup", "#!/bin/sh\nexit 3\n")
	// It does what service(8) and rc-service(8) do.
	write("service", "#!/bin/sh\nexec "+root+"/etc/init.d/$1 $2\n")
	link("etc/rc2.d/S01up")
	link("etc/rc0.d/K01down")
	link("etc/rc2.d/S01mup")
	link("etc/runlevels/default/down")
	yes, no := true, false
	for name, c := range map[string]struct {
		links []string
		check op.ServiceCheck
		want  string // "": it passes
	}{
		"running":               {sysVScripts.links, op.ServiceCheck{Name: "up", Running: true, Enabled: &yes}, ""},
		"with systemd's ending": {sysVScripts.links, op.ServiceCheck{Name: "up.service", Running: true, Enabled: &yes}, ""},
		"stopped":               {sysVScripts.links, op.ServiceCheck{Name: "down", Enabled: &no}, ""},
		"whatever":              {sysVScripts.links, op.ServiceCheck{Name: "down"}, ""},
		"in a runlevel":         {openRCScripts.links, op.ServiceCheck{Name: "down", Enabled: &yes}, ""},
		"in none":               {openRCScripts.links, op.ServiceCheck{Name: "up", Running: true, Enabled: &no}, ""},
		"absent":                {sysVScripts.links, op.ServiceCheck{Name: "none", Enabled: &no}, ""},
		"wanted":                {sysVScripts.links, op.ServiceCheck{Name: "none", Running: true}, "there is no service none"},
		"not running":           {sysVScripts.links, op.ServiceCheck{Name: "down", Running: true}, `service down answers with status 3, want it running; it said: "down is stopped"`},
		"running and enabled": {sysVScripts.links, op.ServiceCheck{Name: "up", Enabled: &no},
			"service up answers with status 0, want it not running; it said: \"\"\nservice up is enabled, want it disabled"},
		"disabled": {openRCScripts.links, op.ServiceCheck{Name: "up", Running: true, Enabled: &yes}, "service up is disabled, want it enabled"},
	} {
		err := scripts{filepath.Join(root, "service"), c.links}.ask(t.Context(), c.check, root)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := (scripts{filepath.Join(root, "none"), nil}).ask(t.Context(), op.ServiceCheck{Name: "up"}, root); err == nil {
		t.Error("the program is missing, and that was no error")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("late"))
	if err := (scripts{filepath.Join(root, "service"), nil}).ask(ctx, op.ServiceCheck{Name: "up"}, root); err == nil || !strings.Contains(err.Error(), "late") {
		t.Errorf("at the deadline: %v", err)
	}
}

// What is cut of an output, or quoted, tells no part of a secret.
func TestNoPartOfASecretIsTold(t *testing.T) {
	const secret = `correct "horse" battery`
	for _, script := range []string{
		`cat "$0"; exit 1`,
		`cat "$0"; head -c 290 /dev/zero | tr '\0' x; exit 1`,
		fmt.Sprintf(`head -c %d /dev/zero | tr '\0' x; cat "$0"; exit 1`, wire.MaxOutput-10),
		fmt.Sprintf(`cat "$0"; head -c %d /dev/zero | tr '\0' x; cat "$0"; exit 1`, wire.MaxOutput),
	} {
		file := filepath.Join(t.TempDir(), "secret")
		peer.Must(t, os.WriteFile(file, []byte(secret), 0o600))
		v := ask(command(op.CommandCheck{Run: strings.ReplaceAll(script, "$0", file), Expect: "^nothing$"}), wire.Result{}, []string{secret})
		if said := fmt.Sprintf("%+v", v); strings.Contains(said, "corr") || strings.Contains(said, "orse") || strings.Contains(said, "batt") || len(v.Cases[0].Output) > wire.MaxOutput {
			t.Errorf("%s: %s", script, strings.ReplaceAll(said, "x", ""))
		}
	}
}
