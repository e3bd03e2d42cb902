package build

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"herdbook/internal/ansible"
	"herdbook/internal/definition"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/program"
	"herdbook/internal/tunnel"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// show is an Ansible step: what is played on the host when the guest is ready for it.
type show struct {
	step        *op.Ansible
	inputs      []definition.Input
	dir         string        // all that is on the host for it
	key         []byte        // private key of who comes into the guest
	program     string        // path of ansible-playbook
	environment []string      // of the user's programs
	limit       time.Duration // of all runs
	now         func() time.Time
	sink        event.Sink
	report      ansible.Report // filled by the runs
}

// showOf is the show of an Ansible step, for which the session is made ready; nil for
// another step. That programs are missing is better known before the boot.
func (r *run) showOf(step plan.Step, session *workshop.Session) (*show, error) {
	o, ok := step.Operation.(*op.Ansible)
	if !ok {
		return nil, nil
	}
	binary, err := program.Find(ansible.Program)
	if err == nil {
		_, err = program.Find(ansible.SSH)
	}
	if err != nil {
		return nil, err
	}
	s := &show{
		step: o, inputs: step.Files, dir: filepath.Join(session.Scratch, "ansible"), program: binary, environment: r.Environment,
		limit: timeout(step.Step), now: r.Now, sink: session.Sink,
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for the guest: %w", err)
	}
	visitor, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("make a key for the guest: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "herdbook")
	if err != nil {
		return nil, fmt.Errorf("make a key for the guest: %w", err)
	}
	s.key = pem.EncodeToMemory(block)
	session.Job.Steps[0].Visitor = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(visitor)))
	session.Tunnel, session.Answer = true, s.answer
	return s, nil
}

// answer plays the playbook when the agent asks for it.
func (s *show) answer(ctx context.Context, m *machine.Machine, a wire.Ask) wire.Answer {
	var stage wire.Stage
	if a.What != wire.AskPlay || json.Unmarshal([]byte(a.Text), &stage) != nil {
		return wire.Answer{Error: fmt.Sprintf("an Ansible step knows nothing of %q", a.What)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, errTooLong(s.limit))
	defer cancel()
	if err := s.play(ctx, m.Tunnel(), stage); err != nil {
		return wire.Answer{Error: op.Redact(err.Error(), s.secrets())}
	}
	return wire.Answer{}
}

// errTooLong says that a step took longer than it may.
func errTooLong(limit time.Duration) error {
	return fmt.Errorf("it was not done after %v; give the step a longer timeout if it needs one", limit)
}

// play plays the playbook, and a second time if that must change nothing.
func (s *show) play(ctx context.Context, line io.ReadWriteCloser, stage wire.Stage) (err error) {
	if strings.ContainsAny(stage.HostKey, "\r\n") || len(stage.HostKey) > 1<<10 {
		return errors.New("the agent's host key is none")
	}
	entrance, err := tunnel.Enter(line)
	if err != nil {
		return err
	}
	defer entrance.Close()
	sockets, err := socketDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sockets), os.RemoveAll(s.dir)) }()
	spec := s.spec()
	spec.Sockets, spec.Port, spec.HostKey = sockets, entrance.Port(), stage.HostKey
	if err := s.lay(spec); err != nil {
		return err
	}
	run, err := s.once(ctx, spec, spec.Judge)
	if err != nil {
		if ctx.Err() == nil && !stage.Python && run.Counts.Changed == 0 {
			err = fmt.Errorf("%w\nthe image has no Python, which Ansible needs: install python3 with a packages step before", err)
		}
		return err
	}
	if s.step.Twice() {
		s.sink.Emit(event.Event{Kind: event.Phase, Text: "play it again: nothing may change"})
		_, err = s.once(ctx, spec, spec.JudgeSecond)
	}
	return err
}

// socketDir makes a directory for SSH's sockets. The path of a socket has 107 bytes at
// most: that of the scratch directory may have more, and so may the user's for what is
// temporary, to which the directory's name and SSH's own for a socket add some fifty.
func socketDir() (string, error) {
	const most = 50
	base := os.TempDir()
	if len(base) > most {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "herdbook-ansible-*")
	if err != nil {
		return "", fmt.Errorf("make a directory for SSH's sockets: %w", err)
	}
	return dir, nil
}

// spec is the run, but for what is known in the end only.
func (s *show) spec() ansible.Spec {
	spec := ansible.Spec{
		Step: s.step, Key: s.key, Tree: filepath.Join(s.dir, "tree"), Private: filepath.Join(s.dir, "private"),
		Path: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", Home: filepath.Join(s.dir, "private", "home"),
	}
	for _, entry := range s.environment {
		switch name, value, _ := strings.Cut(entry, "="); name {
		case "PATH":
			spec.Path = value
		case "HOME":
			spec.Home = value
		}
	}
	return spec
}

// lay lays down the files of the runs: the playbook's tree, as it is in the key, and those
// that nobody else may read.
func (s *show) lay(spec ansible.Spec) error {
	for _, dir := range []string{s.dir, spec.Private, filepath.Join(spec.Private, "plugins"), filepath.Join(spec.Private, "home")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("lay the playbook down: %w", err)
		}
	}
	for _, input := range s.inputs {
		if err := layInput(filepath.Join(spec.Tree, filepath.FromSlash(input.Name)), input); err != nil {
			return fmt.Errorf("lay the playbook down: %s: %w", input.Path, err)
		}
	}
	files, err := spec.Files()
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := writeNew(name, content); err != nil {
			return fmt.Errorf("lay the playbook down: %w", err)
		}
	}
	return nil
}

// writeNew writes a file that is not there yet, for its owner alone.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// layInput copies one file, directory or link of the definition's.
func layInput(name string, input definition.Input) (err error) {
	stat, err := os.Lstat(input.Path)
	switch {
	case err != nil:
		return err
	case stat.IsDir():
		return os.Mkdir(name, 0o700|stat.Mode().Perm())
	case input.Link != "":
		return os.Symlink(input.Link, name)
	}
	from, err := os.Open(input.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|stat.Mode().Perm())
	if err != nil {
		return err
	}
	// A file that changed since the plan would be another input than the key says.
	_, err = io.Copy(to, verified(from, input))
	return errors.Join(err, to.Close())
}
