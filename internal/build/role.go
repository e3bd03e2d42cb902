package build

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/puppet"
	"herdbook/internal/store"
	"herdbook/internal/wire"
)

// role is the host's part of a step of Puppet.
type role struct {
	run   *run
	step  *op.Puppet
	limit time.Duration // of the step
	sink  event.Sink
	ran   atomic.Bool // Puppet did, or was about to
}

// cleanTimeout is how long the user's command may take to let the CA forget a
// certificate.
const cleanTimeout = 2 * time.Minute

// roleOf is nil for any other step. Steps of Puppet share no boot.
func (r *run) roleOf(step plan.Step, sink event.Sink) *role {
	if o, ok := step.Operation.(*op.Puppet); ok {
		return &role{run: r, step: o, limit: timeout(step.Step), sink: sink}
	}
	return nil
}

// hear is a sink for what the machine says.
func (p *role) hear(e event.Event) {
	if e.Kind == event.Phase && e.Text == puppet.RunPhase {
		p.ran.Store(true)
	}
}

// answer does what the agent asks for. It asks for no other name than the step's.
func (p *role) answer(ctx context.Context, ask wire.Ask) wire.Answer {
	switch {
	case ask.What != wire.AskSign:
		return wire.Answer{Error: fmt.Sprintf("nobody knows what %q is", ask.What)}
	case ask.Text != p.step.Certname:
		return wire.Answer{Error: "it is not the step's certname"}
	case len(p.step.Sign) == 0:
		return wire.Answer{}
	}
	// The agent can only wait for it.
	ctx, cancel := context.WithTimeoutCause(ctx, p.limit, fmt.Errorf("it was not done after %v", p.limit))
	defer cancel()
	if err := p.command(ctx, p.step.Sign); err != nil {
		return wire.Answer{Error: err.Error()}
	}
	return wire.Answer{Text: wire.Done}
}

// after records what became of the step, and sees to it that the CA forgets its
// certificate. The outcome is nil if the machine gave no result; before Puppet ran, what
// the CA has of that name is not ours.
func (p *role) after(ctx context.Context, untrusted *puppet.Outcome, work *store.Work) error {
	if untrusted == nil {
		if p.ran.Load() {
			p.clean(ctx, "the machine did not say what became of it")
		}
		return nil
	}
	outcome := untrusted.Rewrite(func(text string) string { return op.Redact(text, op.Secrets(p.step)) })
	if outcome.Report != nil {
		p.notice("Puppet " + outcome.Report.Summary())
	}
	switch outcome.Certificate {
	case puppet.CertificateLeft:
		p.clean(ctx, outcome.Left)
	case puppet.CertificateAsked:
		p.clean(ctx, "it has the request, and has not signed it")
	}
	return work.Report(p.step.Kind(), outcome)
}

// clean lets the CA forget the certificate. What stays there for a reason is told, and
// is no failure of the image.
func (p *role) clean(ctx context.Context, reason string) {
	if p.step.Server == "" {
		return
	}
	err := errors.New("clean says no command for it")
	if len(p.step.Clean) > 0 {
		// What was interrupted leaves a certificate, too.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		err = p.command(after, p.step.Clean)
	}
	if err != nil {
		p.notice(fmt.Sprintf("the CA of %s may still have the certificate %s: %s; %v. Clean it there before the next build: puppetserver ca clean --certname %[2]s",
			p.step.Server, p.step.Certname, reason, err))
	}
}

// command runs a command of the user's for the certificate.
func (p *role) command(ctx context.Context, args []string) error {
	return p.run.command(ctx, args, []string{"HERDBOOK_CERTNAME=" + p.step.Certname}, p.sink)
}

func (p *role) notice(text string) { p.sink.Emit(event.Event{Kind: event.Notice, Text: text}) }
