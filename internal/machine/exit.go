package machine

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Reason is how a machine ended.
type Reason string

// The ways to end.
const (
	PoweredOff Reason = "powered off" // by the guest itself: the only good end
	Reset      Reason = "reset"       // the guest wanted to restart
	Panicked   Reason = "panicked"    // the guest's kernel gave up and wanted to restart; Exit.Panic is its word
	Ended      Reason = "ended"       // by Kill, Quit or Close
	Cancelled  Reason = "cancelled"   // by the end of a context; Exit.Cause is its cause
	Failed     Reason = "failed"      // the host could not go on: a disk that failed, KVM that gave up
	Killed     Reason = "killed"      // by a signal that herdbook did not send; Exit.Signal is its number
	Crashed    Reason = "crashed"     // QEMU itself gave up
)

// Exit is a machine's end as an error. Wait returns it for every end but
// PoweredOff.
type Exit struct {
	Reason Reason
	Cause  error          // what lies behind it; may be nil
	Signal syscall.Signal // that killed QEMU; 0 if none did
	Panic  string         // the kernel's line, for Panicked
	Stderr string         // the last words of QEMU
	Last   string         // the last line of the console
}

// Error says how the machine ended, why, and where it was.
func (e *Exit) Error() string {
	var b strings.Builder
	switch e.Reason {
	case PoweredOff:
		b.WriteString("the machine powered off")
	case Reset:
		b.WriteString("the machine restarted by itself")
	case Panicked:
		return "the machine's kernel gave up: " + e.Panic
	case Ended:
		b.WriteString("the machine was ended")
	case Cancelled:
		b.WriteString("the machine was stopped")
	case Failed:
		b.WriteString("the machine could not go on")
	case Killed:
		fmt.Fprintf(&b, "QEMU was killed from outside (signal %d, %s)", int(e.Signal), e.Signal)
		if e.Signal == syscall.SIGKILL {
			b.WriteString("; the host may be out of memory")
		}
	default:
		b.WriteString("QEMU ended unexpectedly")
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	if e.Stderr != "" && e.Reason != Ended && e.Reason != Cancelled {
		b.WriteString(": " + e.Stderr)
	}
	if e.Last != "" {
		fmt.Fprintf(&b, "; the last line of its console: %q", e.Last)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Exit) Unwrap() error { return e.Cause }

// ending is what is known when QEMU is gone.
type ending struct {
	err      error  // of the process: nil for status 0
	intent   *Exit  // what herdbook itself decided: nil if it did not end it
	shutdown string // QEMU's reason
	panicked string // the kernel's line
	stderr   string
	last     string
}

// conclude works out how a machine ended. What QEMU said and did goes before
// what herdbook meant to do: a machine that powered off in time did so even
// though a deadline passed while QEMU was closing its disks.
func conclude(e ending) *Exit {
	x := &Exit{Stderr: e.stderr, Last: e.last}
	signal := signalOf(e.err)
	switch {
	case e.err == nil && e.shutdown == "guest-shutdown":
		x.Reason = PoweredOff
	case e.intent != nil:
		x.Reason, x.Cause, x.Signal = e.intent.Reason, e.intent.Cause, signal
	case signal != 0:
		x.Reason, x.Signal = Killed, signal
		if signal == syscall.SIGABRT || signal == syscall.SIGSEGV || signal == syscall.SIGBUS || signal == syscall.SIGSYS {
			x.Reason, x.Cause = Crashed, e.err // its own doing
		}
	case e.err != nil:
		x.Reason, x.Cause = Crashed, e.err
	case e.panicked != "" && (e.shutdown == "guest-reset" || e.shutdown == "guest-panic"):
		x.Reason, x.Panic = Panicked, e.panicked
	case e.shutdown == "guest-panic":
		x.Reason, x.Panic = Panicked, "it told QEMU so"
	case e.shutdown == "guest-reset":
		x.Reason = Reset
	case e.shutdown == "host-qmp-quit":
		x.Reason = Ended
	case e.shutdown == "host-signal": // SIGTERM, SIGINT or SIGHUP, which QEMU obeys
		x.Reason, x.Signal = Killed, syscall.SIGTERM
	default:
		x.Reason, x.Cause = Crashed, fmt.Errorf("it gave no reason (%q)", e.shutdown)
	}
	return x
}

// signalOf returns the signal that ended a process, or 0.
func signalOf(err error) syscall.Signal {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return 0
}
