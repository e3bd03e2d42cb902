package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/wire"
)

// examine asks the checks of a test one after the other. Boot is what the system came
// up with.
func examine(checks []wire.Check, boot wire.Result, g *wire.Guest, redact []string) {
	for i, c := range checks {
		g.Check(i, nil)
		if c.Kind == "boots" {
			tellUnits(boot.Failed, g.Sink())
		}
		v := ask(c, boot, redact)
		g.Check(i, &v)
	}
}

// ask asks one check, and ends it at its deadline.
func ask(c wire.Check, boot wire.Result, redact []string) event.Verdict {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(context.Background(), c.Timeout, fmt.Errorf("it was not done after %v", c.Timeout))
	defer cancel()
	var v event.Verdict
	switch {
	case c.Kind == "boots":
		v.Cases = append(v.Cases, caseOf("boot", boot.CheckBoot()))
		for _, command := range c.Commands {
			v.Cases = append(v.Cases, askCommand(ctx, command, redact))
		}
	case c.Kind == "command" && len(c.Commands) == 1:
		v.Cases = []event.Case{askCommand(ctx, c.Commands[0], redact)}
	case c.Port != nil:
		v.Cases = []event.Case{caseOf("", askPort(ctx, *c.Port))}
	case c.Service != nil:
		v.Cases = []event.Case{caseOf("", askService(ctx, *c.Service))}
	case c.Goss != nil:
		v = askGoss(ctx, *c.Goss, redact)
	default:
		v.Text = fmt.Sprintf("the agent knows no test %q", c.Kind)
	}
	v.Hung, v.Elapsed = ctx.Err() != nil, time.Since(start)
	if v.Hung && v.Passed() {
		v.Text = context.Cause(ctx).Error()
	}
	return v.Rewrite(func(text string) string { return op.Redact(text, redact) })
}

// caseOf is a case that has failed if there is an error.
func caseOf(name string, err error) event.Case {
	if err != nil {
		return event.Case{Name: name, Outcome: event.Failed, Text: err.Error()}
	}
	return event.Case{Name: name, Outcome: event.Passed}
}

// askCommand runs a command and compares its answer with what is wanted.
func askCommand(ctx context.Context, c op.CommandCheck, redact []string) event.Case {
	start := time.Now()
	what := "the command"
	if c.Name != "" {
		what = fmt.Sprintf("command %q", c.Name)
	}
	a := answerOf(ctx, []string{"/bin/sh", "-c", c.Run}, run{user: c.User, most: wire.MaxOutput + longest(redact)})
	result := caseOf(c.Name, a.judge(c, what, redact))
	result.Output, result.Elapsed = head(a.output, redact), time.Since(start)
	return result
}

// judge tells everything in which an answer is not what was wanted.
func (a answer) judge(c op.CommandCheck, what string, redact []string) error {
	if a.err != nil {
		if a.output == "" {
			return fmt.Errorf("%s: %w", what, a.err)
		}
		return fmt.Errorf("%s: %w; it said: %s", what, a.err, short(a.output, redact))
	}
	var errs []string
	if a.status != c.ExitStatus {
		errs = append(errs, fmt.Sprintf("%s ended with status %d, want %d; it said: %s", what, a.status, c.ExitStatus, short(a.output, redact)))
	}
	if expect, err := regexp.Compile(c.Expect); err != nil || !expect.MatchString(a.output) {
		text := fmt.Sprintf("%s said %s, which does not match %q", what, short(a.output, redact), c.Expect)
		if a.more {
			text += fmt.Sprintf("; only the first %d KiB of what it said were looked at", wire.MaxOutput>>10)
		}
		errs = append(errs, text)
	}
	if len(errs) == 0 {
		return nil
	}
	return errors.New(strings.Join(errs, "\n"))
}

// short quotes the end of an output, of which no secret is cut in two.
func short(text string, redact []string) string {
	const most = 300 // bytes
	text = strings.TrimSpace(op.Redact(text, redact))
	if len(text) > most {
		text = "…" + strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return fmt.Sprintf("%q", text)
}

// head is an output of at most wire.MaxOutput bytes, without the half of a secret at its
// end. It takes as much more as the longest secret has.
func head(text string, redact []string) string {
	clean := op.Redact(text, redact)
	if len(text) > wire.MaxOutput {
		clean = strings.ToValidUTF8(clean[:max(0, len(clean)-longest(redact))], "")
	}
	return clean
}

// longest is how many bytes the longest of several values has.
func longest(values []string) int {
	most := 0
	for _, v := range values {
		most = max(most, len(v))
	}
	return most
}

// run is how a program is run.
type run struct {
	user string // "" for root
	dir  string // "" for the agent's own, /
	most int    // bytes of its output that are kept
	only bool   // keep what it says on standard output apart
}

// answer is what a program answered.
type answer struct {
	output string // standard output and error, or standard output alone
	more   bool   // was put out than is kept
	errors string // standard error, where that is apart
	status int    // -1 if a signal ended it
	err    error  // it could not be run, or had to be ended
}

// leftBehind is how long the output of a command is read after its end: it may
// have started what holds it open for ever.
const leftBehind = 2 * time.Second

// answerOf runs a program of the guest, and ends it with all that is in its process
// group when ctx ends.
func answerOf(ctx context.Context, argv []string, r run) answer {
	account, credential, err := accountOf(r.user)
	if err != nil {
		return answer{err: err}
	}
	out, errs := &bounded{most: r.most}, &bounded{most: wire.MaxOutput}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if r.only {
		cmd.Stderr = errs
	}
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SHELL=/bin/sh",
		"HOME=" + account.HomeDir, "USER=" + account.Username, "LOGNAME=" + account.Username,
	}
	cmd.Dir = r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = leftBehind
	var a answer
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		a.err = context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
	case errors.As(err, &exit):
		a.status = exit.ExitCode()
	default:
		a.err = err
	}
	a.output, a.more, a.errors = out.String(), out.more, errs.String()
	return a
}

// accountOf finds an account of the guest, and what a process of it has. Nil is the
// agent's own: root's.
func accountOf(name string) (*user.User, *syscall.Credential, error) {
	if name == "" {
		return &user.User{Username: "root", HomeDir: "/root"}, nil, nil
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil, nil, fmt.Errorf("run as %s: %w", name, err)
	}
	groups, err := account.GroupIds()
	if err != nil {
		return nil, nil, fmt.Errorf("run as %s: its groups: %w", name, err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	gid, groupErr := strconv.ParseUint(account.Gid, 10, 32)
	if err = errors.Join(err, groupErr); err != nil {
		return nil, nil, fmt.Errorf("run as %s: %w", name, err)
	}
	credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, group := range groups {
		if id, err := strconv.ParseUint(group, 10, 32); err == nil {
			credential.Groups = append(credential.Groups, uint32(id))
		}
	}
	return account, credential, nil
}

// bounded keeps the first part of what is written.
type bounded struct {
	text []byte
	most int
	more bool // than was kept
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.most-len(b.text))
	b.text, b.more = append(b.text, p[:n]...), b.more || n < len(p)
	return len(p), nil
}

// String is what was kept, as text.
func (b *bounded) String() string { return string(bytes.ToValidUTF8(b.text, []byte("�"))) }
