package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/op"
	"herdbook/internal/puppet"
)

// prepare lays down what a run needs, and notes how it is taken away.
func (p *puppetRun) prepare(ctx context.Context) error {
	if err := keepQuiet(); err != nil {
		return err
	}
	if err := p.findAgent(ctx); err != nil {
		return err
	}
	p.forgetMade()
	if err := p.Root.MkdirAll(string(p.dir), 0o711); err != nil { // Puppet gives parts of it to its own user
		return fmt.Errorf("make room for Puppet: %w", err)
	}
	p.undo = append(p.undo, func() error { return p.Root.RemoveAll(string(p.dir)) })
	files, err := puppet.Files(p.step, p.dir)
	if err != nil {
		return err
	}
	facts, err := puppet.Facts(p.step)
	if err != nil {
		return err
	}
	if facts != nil {
		files = append(files, puppet.File{Path: puppet.FactsFile, Content: facts})
		p.forgetFile(puppet.FactsFile)
	}
	for _, f := range files {
		if err := p.write(f.Path, f.Content, 0o600); err != nil {
			return fmt.Errorf("tell Puppet what to do: %w", err)
		}
	}
	if p.step.Payload == "" {
		return p.Root.MkdirAll(p.dir.Modules(), 0o755)
	}
	return guest.Apply(ctx, p.Guest, &op.Copy{Source: p.step.Modules, Payload: p.step.Payload, Destination: p.dir.Modules()})
}

// write writes a file, and makes the directories that it lacks.
func (p *puppetRun) write(name string, content []byte, mode uint32) error {
	return errors.Join(p.Root.MkdirAll(path.Dir(name), 0o755), p.Root.WriteFile(name, content, guest.Attributes{Mode: mode}, false))
}

// forgetMade has the directories removed at the end that Puppet makes and that are not
// there now, if they are empty then, the deepest first.
func (p *puppetRun) forgetMade() {
	for _, dir := range slices.Backward(puppet.CreatedDirs) {
		if !p.Root.Exists(dir) {
			p.undo = append(p.undo, func() error { return p.removeEmpty(dir) })
		}
	}
}

// forgetFile has a file removed at the end, with the directories that are made for it.
func (p *puppetRun) forgetFile(name string) {
	undo := []func() error{func() error { return p.Root.RemoveAll(name) }} // the first goes first
	for dir := path.Dir(name); !p.Root.Exists(dir); dir = path.Dir(dir) {
		undo = append(undo, func() error { return p.removeEmpty(dir) })
	}
	slices.Reverse(undo)
	p.undo = append(p.undo, undo...)
}

// removeEmpty removes a directory that is there and empty.
func (p *puppetRun) removeEmpty(dir string) error {
	names, err := p.Root.ReadDir(dir)
	if err != nil || len(names) > 0 {
		return nil // it was not made, or somebody needs it
	}
	return p.Root.RemoveAll(dir)
}

// leave takes all traces away.
func (p *puppetRun) leave() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the traces of Puppet's run away: %w", err)
	}
	return nil
}

// keepQuiet stops Puppet's own services. Those of them that were masked for the boot are
// what they are on the disk again: a catalogue may speak of them.
func keepQuiet() error {
	if !underSystemd() {
		return nil
	}
	// One call for all: each takes seconds in an emulated machine.
	text, err := output("systemctl", append([]string{"show", "--property=Id,LoadState,ActiveState"}, puppet.Units...)...)
	if err != nil {
		return fmt.Errorf("ask systemd for Puppet's services: %w", err)
	}
	running, masked := puppet.Services(text)
	for _, command := range [][]string{append([]string{"stop"}, running...), {"daemon-reload"}} {
		if command[0] == "stop" && len(running) == 0 || command[0] == "daemon-reload" && !masked {
			continue
		}
		if _, err := output("systemctl", command...); err != nil {
			return fmt.Errorf("keep Puppet's own services quiet: %w", err)
		}
	}
	return nil
}

// findAgent finds Puppet, or installs it.
func (p *puppetRun) findAgent(ctx context.Context) error {
	if p.program = p.agentProgram(); p.program != "" {
		return nil
	}
	name := p.step.Package()
	if name == "" {
		return errors.New(`the image has no Puppet, and install = "" forbids to install it`)
	}
	p.Sink.Emit(event.Event{Kind: event.Phase, Text: "install Puppet"})
	if err := p.addRepository(); err != nil {
		return err
	}
	allow, err := p.Root.ForbidServices()
	if err != nil {
		return err
	}
	err = errors.Join(guest.Apply(ctx, p.Guest, &op.Packages{Install: []string{name}}), allow())
	if err != nil {
		return fmt.Errorf("install Puppet: %w", err)
	}
	if p.program = p.agentProgram(); p.program == "" {
		return fmt.Errorf("the package %s holds no Puppet: there is none of %s", name, strings.Join(puppet.Programs, ", "))
	}
	p.installed = true
	return nil
}

func (p *puppetRun) agentProgram() string {
	for _, program := range puppet.Programs {
		if p.Root.Exists(program) {
			return program
		}
	}
	return ""
}

// Files of the repository that the agent is installed from. They stay with it.
const (
	repositoryList = "/etc/apt/sources.list.d/puppet-agent.list"
	repositoryKey  = "/etc/apt/keyrings/puppet-agent.asc"
)

// addRepository makes the step's repository known to apt.
func (p *puppetRun) addRepository() error {
	if p.step.Repository == "" {
		return nil
	}
	if !p.Root.Exists("/usr/bin/apt-get") {
		return errors.New("repository is for apt, which the image has not: lay the repository of another package manager down with a step file")
	}
	words := strings.Fields(p.step.Repository)
	line := "deb [signed-by=" + repositoryKey + "] " + strings.Join(words[1:], " ") + "\n"
	for name, content := range map[string]string{repositoryKey: strings.TrimSpace(p.step.RepositoryKey) + "\n", repositoryList: line} {
		if err := p.write(name, []byte(content), 0o644); err != nil {
			return fmt.Errorf("add the repository: %w", err)
		}
	}
	return nil
}

// removeAgent removes an agent that was installed for the run, if it is not to stay.
func (p *puppetRun) removeAgent(ctx context.Context) error {
	if !p.installed || p.step.Keep() {
		return nil
	}
	p.giveUp(ctx) // which needs Puppet's Ruby
	p.Sink.Emit(event.Event{Kind: event.Phase, Text: "remove Puppet"})
	err := guest.Apply(ctx, p.Guest, &op.Packages{Remove: []string{p.step.Package()}})
	if p.step.Repository != "" {
		err = errors.Join(err, p.Root.RemoveAll(repositoryList), p.Root.RemoveAll(repositoryKey))
	}
	if err != nil {
		return fmt.Errorf("remove Puppet: %w", err)
	}
	return nil
}

// giveUp has the CA revoke and forget the certificate of the run, if there is one, and
// notes what became of it, once. It has time of its own for that.
func (p *puppetRun) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpTimeout)
	defer cancel()
	name, before := p.step.Certname, p.givenUp
	p.givenUp = true
	switch {
	case before || p.step.Server == "" || p.program == "":
		return
	case p.taken:
		p.outcome.Certificate = puppet.CertificateTaken
		return
	case p.Root.Exists(p.dir.Certificate(name)):
	case p.Root.Exists(p.dir.Request(name)):
		p.outcome.Certificate = puppet.CertificateAsked
		return
	default:
		return
	}
	p.Sink.Emit(event.Event{Kind: event.Phase, Text: "give the certificate up"})
	p.outcome.Certificate = puppet.CertificateCleaned
	if err := p.revoke(ctx); err != nil {
		p.outcome.Certificate, p.outcome.Left = puppet.CertificateLeft, err.Error()
	}
}

// revoke has Puppet's own Ruby talk to the CA: the certificate's key lies there, and
// TLS is in nothing else that every guest with Puppet has.
func (p *puppetRun) revoke(ctx context.Context) error {
	script := path.Join(string(p.dir), "revoke.rb")
	if err := p.write(script, []byte(puppet.Revoke), 0o600); err != nil {
		return err
	}
	said := ""
	listen := func(e event.Event) { said = e.Text }
	args := append([]string{p.interpreter(), script}, puppet.Revocation(p.authority(), p.step.Certname, p.dir)...)
	status, err := p.run(ctx, listen, args...)
	if err == nil && status != 0 {
		err = fmt.Errorf("the CA at %s does not let it: %s", p.authority().Host, said)
	}
	return err
}

// authority is where the CA is: where the certificate came from, if the agent has said
// so, else where the step says.
func (p *puppetRun) authority() puppet.Authority {
	if p.ca.Host != "" {
		return p.ca
	}
	return puppet.AuthorityOf(p.step)
}

// interpreter is the Ruby of Puppet.
func (p *puppetRun) interpreter() string {
	text, _ := p.Root.ReadFile(p.program) // without it, any Ruby must do
	first, _, _ := strings.Cut(string(text), "\n")
	return puppet.Interpreter(p.program, first)
}
