package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/op"
	"herdbook/internal/puppet"
	"herdbook/internal/wire"
)

// puppetRun is a step of Puppet in the booted system.
type puppetRun struct {
	*guest.Guest
	step      *op.Puppet
	chroot    guest.Chroot // of Guest, whose lines are heard by others, too
	ask       func(wire.Ask) (wire.Answer, error)
	dir       puppet.Dir
	program   string
	pause     time.Duration // before the next attempt
	installed bool          // by us
	signing   bool          // the host was asked to let the CA sign
	taken     bool          // the certname, by another machine
	givenUp   bool          // the certificate, or it was tried
	ca        puppet.Authority
	outcome   puppet.Outcome
	undo      []func() error // what takes traces away, the last first
}

// The pauses between attempts double from the first to the longest.
const (
	firstPause   = 5 * time.Second
	longestPause = time.Minute
)

// giveUpTimeout is how long it may take to give the certificate up, and to remove what
// is to be removed, beyond the step's own time.
const giveUpTimeout = 5 * time.Minute

// runPuppet carries the step out. There is an outcome even if it fails, and none of
// the run's files is left.
func runPuppet(ctx context.Context, system *guest.Guest, o *op.Puppet, chroot guest.Chroot, ask func(wire.Ask) (wire.Answer, error)) (outcome *puppet.Outcome, err error) {
	p := &puppetRun{Guest: system, step: o, chroot: chroot, ask: ask, dir: puppet.Dir(path.Join(system.Temporary, "puppet")), pause: firstPause}
	defer func() {
		p.giveUp(ctx)
		err = errors.Join(err, p.leave())
		outcome = p.outcome.Rewrite(func(text string) string { return op.Redact(text, chroot.Redact) })
	}()
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if err := p.converge(ctx); err != nil {
		return nil, err
	}
	return nil, p.removeAgent(ctx)
}

// converge runs Puppet until the system is as it should be, and once more to see that
// it is then at rest.
func (p *puppetRun) converge(ctx context.Context) error {
	p.Sink.Emit(event.Event{Kind: event.Phase, Text: puppet.RunPhase})
	report, err := p.untilGood(ctx)
	if err != nil {
		return err
	}
	first := p.outcome
	if err := p.asSaid(report); err != nil || !p.step.Twice() {
		return err
	}
	p.Sink.Emit(event.Event{Kind: event.Phase, Text: "puppet, a second time"})
	second, err := p.untilGood(ctx)
	p.outcome.Report, p.outcome.Attempts = first.Report, first.Attempts
	if err != nil {
		return fmt.Errorf("the second run: %w", err)
	}
	if err := p.asSaid(second); err != nil {
		return fmt.Errorf("the second run: %w", err)
	}
	if n := second.Changing(); n > 0 {
		return fmt.Errorf("a second run changed %d resources again: %s; make them idempotent, or say idempotent = false", n, list(second.Changes))
	}
	return nil
}

// asSaid holds a report against what the step says of it.
func (p *puppetRun) asSaid(report *puppet.Report) error {
	if want := p.step.Environment; want != "" && report.Environment != want {
		return fmt.Errorf("the server gave the environment %s in place of %s: is there one of that name, and does nothing else choose it for this node?", report.Environment, want)
	}
	if want := p.step.ConfigVersion; want != "" && report.Version != want {
		return fmt.Errorf("the catalogue has the version %s, and config_version says %s: the server has other code than the definition", report.Version, want)
	}
	return nil
}

// list names the first of some resources.
func list(resources []puppet.Resource) string {
	var names []string
	for i, r := range resources {
		if i == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, r.String())
	}
	return strings.Join(names, ", ")
}

// untilGood runs Puppet again for as long as what goes wrong is transient.
func (p *puppetRun) untilGood(ctx context.Context) (*puppet.Report, error) {
	most := p.step.Attempts()
	for attempt := 1; ; attempt++ {
		p.outcome.Attempts = attempt
		status, verdict, err := p.once(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case verdict.Problem == "" && p.outcome.Report == nil:
			return nil, errors.New("the run left no report that can be read")
		case verdict.Problem == "":
			return p.outcome.Report, nil
		case verdict.Waiting && !p.signing: // what follows is no retry
			p.signing = true
			if done, err := p.letSign(); err != nil {
				return nil, err
			} else if done {
				most++
				continue
			}
		}
		if !verdict.Transient || attempt >= most {
			return nil, p.failure(status, verdict)
		}
		p.say(fmt.Sprintf("%s; it is tried again in %v", verdict.Problem, p.pause))
		select {
		case <-time.After(p.pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s", context.Cause(ctx), verdict.Problem)
		}
		p.pause = min(2*p.pause, longestPause)
	}
}

// letSign asks the host to let the CA sign.
func (p *puppetRun) letSign() (done bool, err error) {
	p.Sink.Emit(event.Event{Kind: event.Phase, Text: "the certificate request is being signed"})
	answer, err := p.ask(wire.Ask{What: wire.AskSign, Text: p.step.Certname})
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		return false, fmt.Errorf("let the CA sign: %w", err)
	}
	return answer.Text == wire.Done, nil
}

// once is one run.
func (p *puppetRun) once(ctx context.Context) (int, puppet.Verdict, error) {
	if err := p.Root.RemoveAll(p.dir.Report()); err != nil {
		return 0, puppet.Verdict{}, err
	}
	var mu sync.Mutex
	var log puppet.Log
	listen := func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		log.Line(e.Text)
	}
	status, err := p.run(ctx, listen, append([]string{p.program}, puppet.Arguments(p.step, p.dir)...)...)
	if err != nil {
		return 0, puppet.Verdict{}, fmt.Errorf("run Puppet: %w", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if ca, ok := log.Authority(); ok {
		p.ca = ca
	}
	p.outcome.Report = p.report()
	verdict := log.Judge(status, p.outcome.Report)
	p.taken = p.taken || verdict.Taken
	return status, verdict, nil
}

// run runs a program of the system whose lines somebody else hears, too.
func (p *puppetRun) run(ctx context.Context, listen event.Sink, args ...string) (int, error) {
	runner := p.chroot
	runner.Sink = event.Tee(p.Sink, listen)
	return runner.Run(ctx, guest.Command{Args: args})
}

// report reads what a run has left; nil if that is nothing that can be read.
func (p *puppetRun) report() *puppet.Report {
	f, err := p.Root.Open(p.dir.Report())
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, puppet.MaxReport+1))
	if err != nil {
		return nil
	}
	report, err := puppet.ParseReport(text)
	if err != nil {
		p.say(err.Error())
	}
	return report
}

// failure is the error of a run. It names the first resource that failed.
func (p *puppetRun) failure(status int, v puppet.Verdict) error {
	text := fmt.Sprintf("Puppet ended with status %d: %s", status, v.Problem)
	if r := p.outcome.Report; r != nil && len(r.Failures) > 0 {
		text += fmt.Sprintf(": %d of %d, first %s", r.Failed, r.Total, r.Failures[0])
	}
	if p.outcome.Attempts > 1 {
		text += fmt.Sprintf("; it was tried %d times", p.outcome.Attempts)
	}
	if v.Cure != "" {
		text += "; " + v.Cure
	}
	return &guest.Error{Status: status, Err: errors.New(text)}
}

// say is the agent's own word.
func (p *puppetRun) say(text string) { p.Sink.Line(event.Agent, text) }
