package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// script is a script and what must come of it.
type script struct {
	text           string
	stdout, stderr []string
	status         int    // 0: it succeeds
	err            string // of one that does not
}

func (s script) check(t *testing.T, g *guestTest, environment map[string]op.Secret) {
	t.Helper()
	g.events = nil
	// The small root has no locale, of which perl would complain.
	environment = maps.Clone(environment)
	if environment == nil {
		environment = map[string]op.Secret{}
	}
	environment["LANG"] = op.Secret{Value: "C"}
	err := Apply(t.Context(), g.Guest, &op.Run{Script: s.text, Environment: environment})
	var failure *Error
	switch {
	case s.status == 0 && err != nil:
		t.Errorf("%q: %v", s.text, err)
	case s.status != 0 && (!errors.As(err, &failure) || failure.Status != s.status || err.Error() != s.err):
		t.Errorf("%q: error %v, want status %d and\n%s", s.text, err, s.status, s.err)
	}
	if diff := cmp.Diff(map[string][]string{event.Stdout: s.stdout, event.Stderr: s.stderr},
		map[string][]string{event.Stdout: g.lines(event.Stdout), event.Stderr: g.lines(event.Stderr)}); diff != "" {
		t.Errorf("%q: output (-want +got):\n%s", s.text, diff)
	}
}

func TestRunByTheShebang(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "bash", "perl", "cat", "echo", "env", "sleep", "false")
	for _, s := range []script{
		{text: "echo \"$0 $#\"", stdout: []string{"/tmp/herdbook-script 0"}},
		{text: "echo $BASH_VERSION-", stdout: []string{"-"}},
		{text: "#!/bin/bash\n[[ $BASH_VERSION ]] && echo \"bash $0\"", stdout: []string{"bash /tmp/herdbook-script"}},
		{text: "#!/usr/bin/env bash\n[[ $BASH_VERSION ]] && echo bash", stdout: []string{"bash"}},
		{text: "#!/usr/bin/env -S bash -u\n[[ $- == *u* ]] && echo strict", stdout: []string{"strict"}},
		{text: "#! /bin/bash -u\n[[ $- == *u* ]] && echo strict", stdout: []string{"strict"}},
		{text: "#!/bin/bash\t-u\n[[ $- == *u* ]] && echo strict", stdout: []string{"strict"}},
		{text: "#!/usr/bin/perl -w\nprint STDOUT \"out $0\\n\"; print STDERR \"err\\n\";", stdout: []string{"out /tmp/herdbook-script"}, stderr: []string{"err"}},
		{text: "#!/bin/cat\nthe script itself", stdout: []string{"#!/bin/cat", "the script itself"}},
		{text: "#!/usr/bin/perl\nexit 7", status: 7, err: "the script ended with status 7"},
		{text: "#!/bin/cat --no-such-option\n", status: 1, err: "the script ended with status 1",
			stderr: []string{"/bin/cat: unrecognized option '--no-such-option'", "Try '/bin/cat --help' for more information."}},
	} {
		s.check(t, g, nil)
	}
}

func TestRunWithAnInterpreterThatIsMissing(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash")
	for script, want := range map[string]string{
		"#!/usr/bin/python4\n":      "run script: fork/exec /usr/bin/python4: no such file or directory",
		"#!/usr/bin/env python4\n":  "run script: the guest has no program python4",
		"#!python4\nprint()":        "run script: the guest has no program python4",
		"#!/usr/lib/issue\nprint()": "run script: fork/exec /usr/lib/issue: permission denied",
	} {
		g.refuse(t, &op.Run{Script: script}, want)
	}
}

func TestRunEndsAtTheFirstFailingLine(t *testing.T) {
	for _, shell := range []string{"dash", "busybox"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.chroot(t, nil, shell)
			if shell == "busybox" {
				peer.Must(t, os.Symlink("busybox", filepath.Join(g.dir, "usr/bin/sh")))
			}
			for _, s := range []script{
				{text: "true\nfalse\necho not here\n", status: 1, err: "the script ended with status 1 at line 2: false"},
				{text: "echo a\n\n  exit 3\necho b", stdout: []string{"a"}, status: 3, err: "the script ended with status 3 at line 3: exit 3"},
				{text: "#!/bin/sh\n# comment\nfalse || echo fine\n! true\nif false; then :; fi\nfalse", stdout: []string{"fine"}, status: 1, err: "the script ended with status 1 at line 6: false"},
				{text: "f() {\n  false\n  echo not here\n}\nf\necho nor here", status: 1, err: "the script ended with status 1 at line 5: f"},
				{text: "for i in 1 2; do\n  echo $i >&2\n  [ $i = 1 ]\ndone\n", stderr: []string{"1", "2"}, status: 1, err: "the script ended with status 1 at line 4: done"},
				{text: "echo one >&2\necho two >&2\nfalse", stderr: []string{"one", "two"}, status: 1, err: "the script ended with status 1 at line 3: false"},
				// What has no end of line runs into the line that the shell repeats.
				{text: "printf working... >&2\nprintf done >&2\nfalse\n", stderr: []string{"working...", "done"}, status: 1, err: "the script ended with status 1 at line 3: false"},
				{text: "echo a\r\nfalse\r\n", stdout: []string{"a"}, status: 127, err: "the script ended with status 127 at line 2: false", stderr: []string{crError(shell)}},
				{text: "#!/bin/sh -u\necho $unset\n", status: 2, err: "the script ended with status 2 at line 2: echo $unset", stderr: []string{unsetError(shell)}},
				{text: "cat <<X\nhere\nX\nexit 9", status: 127, err: "the script ended with status 127 at line 3: X", stderr: []string{missing(shell, 1, "cat")}},
			} {
				s.check(t, g, nil)
			}
		})
	}
}

// Each shell has its own words.
func missing(shell string, line int, program string) string {
	if shell == "busybox" {
		return fmt.Sprintf("/tmp/herdbook-script: line %d: %s: not found", line, program)
	}
	return fmt.Sprintf("/tmp/herdbook-script: %d: %s: not found", line, program)
}

func crError(shell string) string { return missing(shell, 2, "false\r") }

func unsetError(shell string) string {
	if shell == "busybox" {
		return "/tmp/herdbook-script: line 2: unset: parameter not set"
	}
	return "/tmp/herdbook-script: 2: unset: parameter not set"
}

func TestRunByBashEndsAtTheFirstFailingLine(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "bash", "dash")
	for _, s := range []script{
		{text: "#!/bin/bash\ntrue\nfalse\necho not here", status: 1, err: "the script ended with status 1 at line 3: false"},
		{text: "#!/bin/bash\nf() {\n  (exit 4)\n  echo not here\n}\nf\n", status: 4, err: "the script ended with status 4 at line 3: (exit 4)"},
		{text: "#!/bin/bash\nx=$(exit 5)\n", status: 5, err: "the script ended with status 5 at line 2: x=$(exit 5)"},
		{text: "#!/bin/bash\nset -o pipefail\nfalse | true\n", status: 1, err: "the script ended with status 1 at line 3: false | true"},
		{text: "#!/bin/bash\nfalse || echo fine >&2", stderr: []string{"fine"}},
		{text: "#!/bin/bash\nexit 3", status: 3, err: "the script ended with status 3"},
		// A failure that was allowed is not the end.
		{text: "#!/bin/bash\nset +e\nfalse\nset -e\nexit 3", status: 3, err: "the script ended with status 3"},
		{text: "#!/bin/bash\nset +e\nfalse\necho fine", stdout: []string{"fine"}},
		// Its children are shells of their own.
		{text: "#!/bin/bash\nbash -c 'false; echo still here'\necho \"-$BASH_ENV-\"", stdout: []string{"still here", "--"}},
		{text: "#!/bin/bash\nkill -9 $$", status: 137, err: "the script ended with status 137"},
	} {
		s.check(t, g, nil)
	}
}

func TestRunReportsTheWholeOutput(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "perl")
	long := strings.Repeat("x", 3*maxLine+10)
	for _, s := range []script{
		{text: "#!/usr/bin/perl\nprint 'no end'; print STDERR 'none either';", stdout: []string{"no end"}, stderr: []string{"none either"}},
		{text: "#!/usr/bin/perl\nprint \"a\\n\\nb\\r\\n\";", stdout: []string{"a", "", "b"}},
		{text: "#!/usr/bin/perl\nprint \"a\\0b\\n\\xff\\n\\xc3\\xa4\\n\";", stdout: []string{"a\x00b", "�", "ä"}},
		{text: "#!/usr/bin/perl\nprint 'x' x (3*65536+10), \"\\nnext\\n\";", stdout: []string{long[:maxLine], long[:maxLine], long[:maxLine], long[:10], "next"}},
		{text: "#!/usr/bin/perl\nprint 'a', \"\\xc3\\xa4\" x 40000;", stdout: []string{"a" + strings.Repeat("ä", 32767), strings.Repeat("ä", 40000-32767)}},
		{text: "#!/usr/bin/perl\nprint while $i++ < 0; print STDERR \"$i\\n\" while $i++ < 3000;", stderr: count(2, 3000)},
		{text: "read line || echo \"no input: $line\"", stdout: []string{"no input: "}},
	} {
		s.check(t, g, nil)
	}
}

func count(from, to int) []string {
	var lines []string
	for i := from; i <= to; i++ {
		lines = append(lines, fmt.Sprint(i))
	}
	return lines
}

// Secrets come in the environment and are never seen again, however the script
// prints them.
func TestRunBlotsSecretsOut(t *testing.T) {
	environment := map[string]op.Secret{
		"TOKEN": {Value: "hunter2", Name: "TOKEN"}, "LONGER": {Value: "hunter2-and-more", Name: "LONGER"},
		"KEY": {Value: "first line\r\nsecond line\n", Name: "KEY"}, "CHANNEL": {Value: "stable"},
	}
	o := &op.Run{Environment: environment}
	redact := op.Secrets(o)
	g := newGuest(t)
	g.chroot(t, redact, "dash", "perl")
	for _, s := range []script{
		{text: "echo $CHANNEL $TOKEN; echo $LONGER >&2", stdout: []string{"stable ***"}, stderr: []string{"***"}},
		{text: "echo \"$KEY\"", stdout: []string{"***", "***", ""}},
		{text: "printf hunt; printf er2", stdout: []string{"***"}},
		{text: "echo a\nexit ${#TOKEN}", stdout: []string{"a"}, status: 7, err: "the script ended with status 7 at line 2: exit ${#TOKEN}"},
		// A secret that lies across the end of a long line's piece.
		{text: "#!/usr/bin/perl\nprint 'x' x (65536-3), $ENV{TOKEN}, 'y' x 100, \"\\n\";", stdout: []string{strings.Repeat("x", 65533) + "***", strings.Repeat("y", 100)}},
	} {
		s.check(t, g, environment)
	}
}

// A process that outlives the script and holds its output open is not waited
// for, and it is ended, as all are that the script left behind.
func TestRunEndsWhatOutlivesTheScript(t *testing.T) {
	t.Parallel() // it waits some seconds for the first
	g := newGuest(t)
	g.chroot(t, nil, "dash", "sleep")
	for _, s := range []script{
		{text: "sleep 1000 &\necho $! >/srv/pid; echo done", stdout: []string{"done"}},
		{text: "sleep 1000 >/dev/null 2>&1 &\necho $! >/srv/pid; exit 3", status: 3, err: "the script ended with status 3 at line 2: echo $! >/srv/pid; exit 3"},
	} {
		s.check(t, g, nil)
		pid, err := g.Root.ReadFile("/srv/pid")
		peer.Must(t, err)
		waitGone(t, strings.TrimSpace(string(pid)))
	}
}

// waitGone waits for the end of a process; whoever inherited it may be slow to
// collect it.
func waitGone(t *testing.T, pid string) {
	t.Helper()
	for t.Context().Err() == nil {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") || strings.Contains(string(stat), ") X ") {
			return
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "sleep")
	cause := errors.New("the step took too long")
	ctx, cancel := context.WithCancelCause(t.Context())
	g.Runner = &Chroot{Dir: g.dir, Sink: func(e event.Event) {
		g.hear(e)
		cancel(cause) // at its first line
	}}
	err := Apply(ctx, g.Guest, &op.Run{Script: "sleep 1000 & echo $!; wait"})
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
	waitGone(t, g.lines(event.Stdout)[0])
}

func TestRunLeavesNothingBehind(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "bash")
	for _, script := range []string{"true", "#!/bin/bash\ntrue", "#!/bin/bash\nfalse", "exit 3", "#!/no/such/interpreter"} {
		before := snapshot(t, g.dir)
		_ = Apply(t.Context(), g.Guest, &op.Run{Script: script})
		if got := diff(before, snapshot(t, g.dir)); got != "" {
			t.Errorf("%q left\n%s", script, got)
		}
	}
	g.golden(t, "script", &op.Run{Script: "umask 022\necho hello >/srv/greeting\necho bye >/etc/motd"})
}

// The script, or an image, may put a trap where the line's number is expected.
func TestRunIsNotHeldUpByWhatLiesInTmp(t *testing.T) {
	g := newGuest(t, node{path: "/tmp/herdbook-script", link: "/etc/passwd"}, node{path: "/tmp/herdbook-trap", link: "/etc/passwd"})
	g.chroot(t, nil, "dash", "bash", "mkfifo")
	before := snapshot(t, g.dir)
	script{text: "#!/bin/bash\nmkfifo /tmp/herdbook-line\nexit 3", status: 3, err: "the script ended with status 3"}.check(t, g, nil)
	if got := snapshot(t, g.dir); got["/etc/passwd"] != before["/etc/passwd"] {
		t.Error("the link was followed")
	}
}

func TestRunGivesACleanEnvironment(t *testing.T) {
	t.Setenv("HERDBOOK_TEST_LEAK", "of the host")
	g := newGuest(t)
	g.chroot(t, nil, "perl")
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Run{
		Script:      "#!/usr/bin/perl\nprint \"$_=$ENV{$_}\\n\" for sort keys %ENV;",
		Environment: map[string]op.Secret{"B": {Value: "2"}, "A": {Value: "1"}, "LANG": {Value: "de_DE.UTF-8"}},
	}))
	peer.Golden(t, "run/environment.golden", []byte(strings.Join(g.lines(event.Stdout), "\n")+"\n"))
}

// Every exit status that a script can have is told, as is a signal that killed it.
func TestRunTellsTheStatus(t *testing.T) {
	// What the tests are run by may ignore it, as nohup does, and so would the scripts.
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, unix.SIGHUP)
	defer signal.Stop(hangUp)
	g := newGuest(t)
	g.chroot(t, nil, "dash", "perl")
	for status := range 256 {
		s := script{text: fmt.Sprintf("exit %d", status), status: status}
		if status > 0 {
			s.err = fmt.Sprintf("the script ended with status %d at line 1: exit %d", status, status)
		}
		s.check(t, g, nil)
	}
	for _, signal := range []int{1, 6, 9, 11, 15} {
		status := 128 + signal
		script{text: fmt.Sprintf("#!/usr/bin/perl\nkill %d, $$; sleep", signal), status: status, err: fmt.Sprintf("the script ended with status %d", status)}.check(t, g, nil)
	}
}

// A script of a megabyte, and ten of output.
func TestRunOfALot(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, []string{"hunter2"}, "dash", "perl")
	comment := strings.Repeat("# "+strings.Repeat("x", 61)+"\n", 16<<10)
	const last = "perl -e 'print -s shift' \"$0\"\n"
	script{text: comment + last, stdout: []string{fmt.Sprint(len(comment) + len(last))}}.check(t, g, nil)
	script{text: comment + "false", status: 1, err: "the script ended with status 1 at line 16385: false"}.check(t, g, nil)
	g.events = nil
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Run{Script: "#!/usr/bin/perl\nprint 'x' x 99, \"\\n\" for 1 .. 100_000; print \"\\xff\" x 1e6"}))
	lines := g.lines(event.Stdout)
	if len(lines) < 100_001 || lines[99_999] != strings.Repeat("x", 99) {
		t.Errorf("%d lines arrived", len(lines))
	}
}

// With CRLF the interpreter's name ends with a carriage return, for the kernel too; here
// it is found all the same.
func TestRunWithCarriageReturns(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "perl")
	script{text: "#!/usr/bin/perl\r\nprint \"fine\\n\";\r\n", stdout: []string{"fine"}}.check(t, g, nil)
}

// In the booted system what a script leaves behind lives on, and is heard; the step ends.
func TestDaemonsLiveOn(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "cat", "mkfifo")
	heard := make(chan string, 10)
	g.Runner = &Chroot{Dir: g.dir, Redact: []string{"hunter2"}, Daemons: true, Sink: func(e event.Event) { heard <- e.Stream + " " + e.Text }}
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Run{Script: "mkfifo /tmp/go\n(cat /tmp/go; echo hunter2; echo bad >&2; cat /tmp/go) &\nprintf done"}))
	for _, step := range []struct {
		tell string
		want []string
	}{{"", []string{"stdout done"}}, {"one\n", []string{"stdout one", "stdout ***", "stderr bad"}}, {"two\n", []string{"stdout two"}}} {
		if step.tell != "" {
			peer.Must(t, os.WriteFile(filepath.Join(g.dir, "tmp/go"), []byte(step.tell), 0))
		}
		var got []string
		for range step.want {
			got = append(got, <-heard)
		}
		slices.Sort(got)
		slices.Sort(step.want)
		if !slices.Equal(got, step.want) {
			t.Errorf("%q, want %q", got, step.want)
		}
	}
}

// A step that takes too long ends with all that it started as its own.
func TestDaemonsEndWithTheTime(t *testing.T) {
	g := newGuest(t)
	g.chroot(t, nil, "dash", "cat", "mkfifo")
	ctx, cancel := context.WithCancelCause(t.Context())
	g.Runner = &Chroot{Dir: g.dir, Daemons: true, Sink: func(event.Event) { cancel(errors.New("too long")) }}
	err := Apply(ctx, g.Guest, &op.Run{Script: "mkfifo /tmp/go\ncat /tmp/go &\necho begun\ncat /tmp/go"})
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("it ended with %v", err)
	}
	if f, err := os.OpenFile(filepath.Join(g.dir, "tmp/go"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil { // nobody reads
		f.Close()
		t.Error("something of it lives on")
	}
}
