package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"herdbook/internal/ansible"
	"herdbook/internal/definition"
	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
	"herdbook/internal/sshd"
	"herdbook/internal/tunnel"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// playing is a playbook of testdata that is played on this host in place of a guest.
type playing struct {
	show  *show
	dir   string // where it works
	lines []string
	mu    sync.Mutex
}

const hushed = `hunter2 é`

func newPlaying(t *testing.T, step *op.Ansible) *playing {
	t.Helper()
	peer.NeedTool(t, ansible.Program, ansible.SSH)
	peer.NeedRoot(t, "a directory in /run")
	t.Cleanup(func() { os.RemoveAll(op.AnsibleTemporary) })
	sockets, err := os.MkdirTemp("/tmp", "s")
	peer.Must(t, err)
	t.Setenv("TMPDIR", sockets)
	t.Cleanup(func() { peer.Must(t, os.Remove(sockets)) }) // and so nothing is left in it
	p := &playing{dir: t.TempDir()}
	step.Directory, step.Playbook = "testdata/ansible", "testdata/ansible/"+step.Playbook
	step.Variables = map[string]op.Secret{"dir": {Value: p.dir}, "token": {Value: hushed, Name: "TOKEN", Version: "1"}}
	if problems := step.Check(); problems != nil {
		t.Fatal(problems)
	}
	inputs, err := definition.Inputs(step.Tree())
	peer.Must(t, err)
	r := &run{Builder: newBuilder(t, nil)}
	r.Now = time.Now
	session := workshop.Session{Scratch: filepath.Join(t.TempDir(), `it's 100% "scratch"`), Job: wire.Job{Steps: make([]wire.Step, 1)}, Sink: func(e event.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lines = append(p.lines, e.Text)
	}}
	peer.Must(t, os.Mkdir(session.Scratch, 0o755))
	p.show, err = r.showOf(plan.Step{Step: definition.Step{Operation: step, Files: inputs}}, &session)
	peer.Must(t, err)
	if !session.Tunnel || session.Answer == nil {
		t.Error("the session has no tunnel")
	}
	p.show.step = step
	p.show.limit = time.Minute
	// The server of the guest, on the other end of a pipe.
	t.Setenv("HERDBOOK_VISITOR", session.Job.Steps[0].Visitor)
	return p
}

// play plays it against a server for the key, as the agent has one.
func (p *playing) play(t *testing.T, ctx context.Context, change func(*wire.Stage)) error {
	t.Helper()
	server, err := sshd.New(os.Getenv("HERDBOOK_VISITOR"))
	peer.Must(t, err)
	host, guest := net.Pipe()
	listener, err := tunnel.Leave(guest)
	peer.Must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	stage := wire.Stage{HostKey: server.HostKey(), Python: true}
	if change != nil {
		change(&stage)
	}
	err = p.show.play(ctx, host, stage)
	listener.Close()
	serving.Wait()
	for _, line := range p.lines {
		if strings.Contains(line, "hunter2") {
			t.Errorf("a secret was reported: %s", line)
		}
		if strings.Contains(line, p.show.dir) {
			t.Errorf("a path of ours was reported: %s", line)
		}
	}
	if _, err := os.Stat(p.show.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the secrets are left behind: %v", err)
	}
	return err
}

func TestVMAPlaybookIsPlayedTwice(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := newPlaying(t, &op.Ansible{Playbook: "site.yml", Groups: []string{"web"}, Host: "calf"})
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	peer.Must(t, os.Mkdir(long, 0o755))
	t.Setenv("TMPDIR", long) // longer than the path of a socket may be
	peer.Must(t, p.play(t, t.Context(), nil))
	for name, want := range map[string]string{"page": "hello from calf, " + hushed + ", Linux\n", "changes": "changed\n"} {
		if got, err := os.ReadFile(filepath.Join(p.dir, "site", name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	runs := p.show.report.Runs
	if len(runs) != 2 {
		t.Fatalf("%d runs", len(runs))
	}
	for i, want := range []ansible.Counts{{OK: 7, Changed: 4, Ignored: 1}, {OK: 6, Ignored: 1}} {
		r := runs[i]
		if r.Counts != want || r.Seconds <= 0 || len(r.Plays) != 1 || r.Plays[0].Name != "A web server without a package" || !strings.HasPrefix(r.Version, "2.") {
			t.Errorf("run %d: %+v", i, r)
		}
	}
	var changed []string
	for _, task := range runs[0].Changed {
		changed = append(changed, task.Name+" "+task.Path)
	}
	want := []string{
		"web : Make the directory testdata/ansible/roles/web/tasks/main.yml:1", "web : Write the page testdata/ansible/roles/web/tasks/main.yml:7",
		"web : Lay down a file testdata/ansible/roles/web/tasks/main.yml:14", "web : Count the changes testdata/ansible/roles/web/handlers/main.yml:1",
	}
	if !slices.Equal(changed, want) {
		t.Errorf("changed: %q", changed)
	}
	text, err := json.Marshal(p.show.report)
	if err != nil || strings.Contains(string(text), "hunter2") {
		t.Errorf("the report: %s, %v", text, err)
	}
}

func TestVMWhatAPlaybookFailsAt(t *testing.T) {
	for _, c := range []struct {
		name   string
		step   op.Ansible
		change func(*wire.Stage)
		want   string // a pattern
	}{
		{"a task", op.Ansible{Playbook: "fails.yml"}, nil, `^the task "Ask for what is not there" \(testdata/ansible/fails\.yml:11\) failed on image: non-zero return code\n  there is no \*\*\*$`},
		{"an item", op.Ansible{Playbook: "loop.yml"}, nil, `^the task "Try some" \(testdata/ansible/loop\.yml:5\) failed on image: non-zero return code\n  the second one$`},
		{"the second run", op.Ansible{Playbook: "restless.yml"}, nil, `^the second run changed something again[^\n]*:\n  task "Write the time" \(testdata/ansible/restless\.yml:11\)\nmend them`},
		{"a role", op.Ansible{Playbook: "broken.yml"}, nil, `(?s)^ansible-playbook ended with status \d: ERROR! the role 'no-such-role' was not found.*testdata/ansible/broken\.yml`},
		{"the groups", op.Ansible{Playbook: "nobody.yml", Groups: []string{"web"}}, nil, `^no task of testdata/ansible/nobody\.yml is for the host "image", which is in the groups web; its tags are all: look at groups, host and tags$`},
		{"the tags", op.Ansible{Playbook: "restless.yml", Tags: []string{"a", "b"}}, nil, `which is in no group; its tags are a, b: look`},
		{"an argument", op.Ansible{Playbook: "restless.yml", Arguments: []string{"--no-such-option"}}, nil, `^ansible-playbook ended with status 2`},
		{"another host key", op.Ansible{Playbook: "fails.yml"}, func(s *wire.Stage) { s.HostKey = otherKey(t) }, `(?s)^image could not be reached for the task "Change something" \(testdata/ansible/fails\.yml:5\): .*Host key verification failed`},
		{"an account", op.Ansible{Playbook: "fails.yml", User: "no-such-account"}, nil, `^image could not be reached for the task`},
		{"Python", op.Ansible{Playbook: "fails.yml", Python: "/no/such/python"}, func(s *wire.Stage) { s.Python = false }, `(?s)^the task "Change something".*/no/such/python.*the image has no Python, which Ansible needs: install python3`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlaying(t, &c.step)
			err := p.play(t, t.Context(), c.change)
			if err == nil {
				t.Fatal("it was played")
			}
			if text := op.Redact(err.Error(), p.show.secrets()); !regexp.MustCompile(c.want).MatchString(text) {
				t.Errorf("%s\n%q", text, p.lines)
			}
		})
	}
}

func otherKey(t *testing.T) string {
	t.Helper()
	server, err := sshd.New(os.Getenv("HERDBOOK_VISITOR"))
	peer.Must(t, err)
	return server.HostKey()
}

func TestVMWhatAPlaybookMayDo(t *testing.T) {
	no := false
	for name, step := range map[string]*op.Ansible{
		"change anew": {Playbook: "restless.yml", Idempotent: &no, Arguments: []string{"--extra-vars", "x=y", "-v"}, Python: "/usr/bin/python3", Vault: op.Secret{Value: "v"}},
		"help itself": {Playbook: "rescued.yml", SkipTags: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlaying(t, step)
			if err := p.play(t, t.Context(), nil); err != nil {
				t.Errorf("%v\n%q", err, p.lines)
			}
		})
	}
}

func TestVMAPlaybookThatHangsIsEnded(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := newPlaying(t, &op.Ansible{Playbook: "hangs.yml"})
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("it takes too long")
	sink := p.show.sink
	p.show.sink = func(e event.Event) {
		sink(e)
		if strings.Contains(e.Text, "TASK [Wait]") {
			cancel(stopped)
		}
	}
	if err := p.play(t, ctx, nil); !errors.Is(err, stopped) {
		t.Errorf("%v", err)
	}
}

func TestAnAgentAsksForSomethingElse(t *testing.T) {
	p := newPlaying(t, &op.Ansible{Playbook: "site.yml"})
	for _, a := range []wire.Ask{{What: "x"}, {What: wire.AskPlay, Text: "{"}} {
		if answer := p.show.answer(t.Context(), nil, a); answer.Error == "" {
			t.Errorf("%+v was done", a)
		}
	}
	host, _ := net.Pipe()
	if err := p.show.play(t.Context(), host, wire.Stage{HostKey: "a\nb"}); err == nil {
		t.Error("a host key of two lines was taken")
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(os.Getenv("HERDBOOK_VISITOR"))); err != nil {
		t.Error(err)
	}
}

func TestLongLinesAreCutWithoutHalvesOfSecrets(t *testing.T) {
	for n := range 40 {
		var got []string
		hidden := []string{"hunter2hunter2"}
		l := &liner{report: func(text string) { got = append(got, text) }, clear: func(text string) string { return op.Redact(text, hidden) }, margin: len(hidden[0])}
		fmt.Fprintf(l, "%shunter2hunter2%s\nnext", strings.Repeat("x", maxSpoken-n), strings.Repeat("y", 100))
		l.end()
		if len(got) != 2 || got[1] != "next" || strings.Contains(got[0], "hun") || !strings.HasSuffix(got[0], "…") {
			t.Errorf("%d: %.20q", n, got[0][len(got[0])-30:])
		}
	}
}
