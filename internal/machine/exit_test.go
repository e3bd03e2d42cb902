package machine

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"herdbook/internal/peer"
)

// died is the error of a process that ended in a way, made by a real one.
func died(t *testing.T, script string) error {
	t.Helper()
	err := exec.Command("sh", "-c", script).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%s: %v", script, err)
	}
	return err
}

func TestConclude(t *testing.T) {
	late := errors.New("it was not done after 5m")
	killed := died(t, "kill -KILL $$")
	for name, c := range map[string]struct {
		ending ending
		reason Reason
		says   string // part of the message
	}{
		"the guest powers off":              {ending{shutdown: "guest-shutdown"}, PoweredOff, "powered off"},
		"in time, though a deadline passed": {ending{shutdown: "guest-shutdown", intent: &Exit{Reason: Cancelled, Cause: late}}, PoweredOff, ""},
		"the guest restarts":                {ending{shutdown: "guest-reset", last: "login:"}, Reset, `restarted by itself; the last line of its console: "login:"`},
		"its kernel gives up":               {ending{shutdown: "guest-reset", panicked: panicMark + ": no init"}, Panicked, "gave up: " + panicMark + ": no init"},
		"it tells QEMU so":                  {ending{shutdown: "guest-panic"}, Panicked, "it told QEMU so"},
		"a deadline":                        {ending{err: killed, intent: &Exit{Reason: Cancelled, Cause: late}}, Cancelled, "was stopped: it was not done after 5m"},
		"a disk fails":                      {ending{err: killed, intent: &Exit{Reason: Failed, Cause: syscall.ENOSPC}}, Failed, "could not go on: no space left on device"},
		"herdbook ends it":                  {ending{err: killed, intent: &Exit{Reason: Ended}, stderr: "noise"}, Ended, "was ended"},
		"killed from outside":               {ending{err: killed}, Killed, "signal 9, killed); the host may be out of memory"},
		"asked from outside":                {ending{shutdown: "host-signal"}, Killed, "signal 15"},
		"asked by QMP":                      {ending{shutdown: "host-qmp-quit"}, Ended, "was ended"},
		"QEMU aborts":                       {ending{err: died(t, "kill -ABRT $$"), stderr: "assertion failed"}, Crashed, "assertion failed"},
		"QEMU gives up":                     {ending{err: died(t, "exit 1"), stderr: "cannot set up guest memory"}, Crashed, "exit status 1: cannot set up guest memory"},
		"for no reason":                     {ending{}, Crashed, "gave no reason"},
	} {
		x := conclude(c.ending)
		if x.Reason != c.reason || !strings.Contains(x.Error(), c.says) {
			t.Errorf("%s: %q, %v; want %q, %q", name, x.Reason, x, c.reason, c.says)
		}
		if name == "herdbook ends it" && strings.Contains(x.Error(), "noise") {
			t.Errorf("what QEMU says when it is ended is no news: %v", x)
		}
	}
	if err := error(conclude(ending{intent: &Exit{Reason: Cancelled, Cause: context.DeadlineExceeded}, err: killed})); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("the cause is not wrapped")
	}
	if signalOf(nil) != 0 || signalOf(late) != 0 || signalOf(killed) != syscall.SIGKILL {
		t.Error("signalOf")
	}
}

func TestTailWriterKeepsTheEndAsOneLine(t *testing.T) {
	var w tailWriter
	_, err := w.Write([]byte(strings.Repeat("x", 3*maxStderr)))
	peer.Must(t, err)
	_, err = w.Write([]byte("\nlast\x1b[31m words\r\n"))
	peer.Must(t, err)
	if text := w.String(); len(text) > maxStderr+10 || !strings.HasSuffix(text, "; last words") {
		t.Errorf("%d bytes, ends in %q", len(text), text[len(text)-20:])
	}
}
