package ansible

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func spec(o *op.Ansible) Spec {
	return Spec{
		Step: o, Tree: "/scratch/tree", Private: `/scratch/it's "50%"`, Sockets: "/tmp/s", Port: 4242, HostKey: "ssh-ed25519 AAAA",
		Key: []byte("KEY\n"), Home: "/home/me", Path: "/usr/bin:/bin",
	}
}

func full() *op.Ansible {
	return &op.Ansible{
		Playbook: "site/plays/web.yml", Directory: "site", Host: "calf", Groups: []string{"web", "edge"},
		Variables: map[string]op.Secret{"colour": {Value: "red"}, "token": {Value: "hunter2", Name: "TOKEN"}}, Vault: op.Secret{Value: "hunter3", Name: "VAULT"},
		Tags: []string{"a", "b"}, SkipTags: []string{"c"}, Arguments: []string{"--diff"}, User: "deploy", Become: true, Python: "/usr/bin/python3",
	}
}

// What a run sees, and that no secret is where other programs can see it.
func TestARunIsHerdbooksOwn(t *testing.T) {
	for name, o := range map[string]*op.Ansible{"full": full(), "least": {Playbook: "site/site.yml"}} {
		s := spec(o)
		files, err := s.Files()
		peer.Must(t, err)
		var text strings.Builder
		for _, argument := range append(s.Arguments(), s.Environment()...) {
			fmt.Fprintf(&text, "%s\n", argument)
		}
		if strings.Contains(text.String(), "hunter") {
			t.Errorf("a secret is in the arguments or the environment: %s", text.String())
		}
		for _, path := range slices.Sorted(func(yield func(string) bool) {
			for path := range files {
				if !yield(path) {
					return
				}
			}
		}) {
			content := string(files[path])
			if strings.HasSuffix(path, ".py") {
				content = "…\n"
			}
			fmt.Fprintf(&text, "== %s\n%s", path, content)
		}
		peer.Golden(t, name, []byte(text.String()))
	}
}

func read(t testing.TB, name string) Run {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".ndjson"))
	peer.Must(t, err)
	defer f.Close()
	run, err := Parse(f, "image")
	peer.Must(t, err)
	return run
}

// Reports of a real Ansible.
func TestParse(t *testing.T) {
	run := read(t, "site")
	if run.Counts != (Counts{OK: 7, Changed: 4, Ignored: 1}) || !run.Played || !run.Whole || run.Version != "2.14.18" || len(run.Changed) != 4 {
		t.Errorf("%+v", run)
	}
	if p := run.Plays[0]; len(run.Plays) != 1 || p.Name != "A web server without a package" || p.OK != 2 || p.Changed != 4 || p.Failed != 1 || p.Seconds <= 0 {
		t.Errorf("%+v", run.Plays)
	}
	task := run.Changed[1]
	task.Seconds = 0
	if want := (Task{Name: "web : Write the page", Action: "ansible.builtin.template", Path: "/scratch/tree/roles/web/tasks/main.yml:7"}); task != want {
		t.Errorf("%+v", task)
	}
	if f := run.Failed[0]; !f.Ignored || f.Message != "non-zero return code" || len(run.fatal()) != 0 {
		t.Errorf("%+v", run.Failed)
	}
	other, err := Parse(strings.NewReader(`{"event":"stats","hosts":{"other":{"ok":1}}}`), "image")
	if err != nil || other.Played || other.OK != 1 {
		t.Errorf("of another host: %+v, %v", other, err)
	}
}

func TestReportsThatAreNone(t *testing.T) {
	stats := `{"event":"stats","hosts":{"image":{"ok":1}}}` + "\n"
	for _, c := range []struct {
		text, want string
		whole      bool
	}{
		{"", "", false},
		{`{"event":"task","status":"ok"}` + "\n" + `{"event":"ta`, "", false}, // cut off
		{stats, "", true},
		{stats + "x\n", "line 2: invalid character", true},
		{`{"event":"x"}`, `line 1: it tells of "x"`, false},
		{`{"event":"stats","hosts":{"image":{"ok":-1}}}`, "counts what cannot be", true},
		{`{"event":"stats","hosts":{"image":{"ok":99999999999}}}`, "counts what cannot be", true},
		{strings.Repeat("x", maxLine+1), "token too long", false},
	} {
		run, err := Parse(strings.NewReader(c.text), "image")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || run.Whole != c.whole {
			t.Errorf("%.60q: %+v, %v", c.text, run, err)
		}
	}
}

func TestJudge(t *testing.T) {
	o := &op.Ansible{Playbook: "site/site.yml", Groups: []string{"web"}}
	good := Run{Whole: true, Played: true}
	refused := []string{"[WARNING]: x", "ERROR! the role 'x' was not found in /scratch/tree/roles", "", "The error appears to be in '/scratch/tree/site.yml'"}
	for name, c := range map[string]struct {
		run    Run
		status int
		said   []string
		want   string
	}{
		"good":              {good, 0, nil, ""},
		"real":              {read(t, "site"), 0, nil, ""},
		"rescued":           {read(t, "rescued"), 0, nil, ""},
		"a task":            {read(t, "fails"), 2, nil, "the task \"Ask for what is not there\" (site/fails.yml:11) failed on image: non-zero return code\n  there is no t"},
		"an item":           {read(t, "loop"), 2, nil, "the task \"Try some\" (site/loop.yml:5) failed on image: non-zero return code\n  the second one"},
		"a status":          {good, 1, nil, "ansible-playbook ended with status 1"},
		"no stats":          {Run{}, 0, nil, "ansible-playbook ended with status 0"},
		"not for the host":  {Run{Whole: true}, 0, nil, `no task of site/site.yml is for the host "image", which is in the groups web; its tags are all: look at groups, host and tags`},
		"counts alone":      {Run{Whole: true, Played: true, Counts: Counts{Failed: 1}}, 0, nil, "ansible-playbook ended with status 0"},
		"unreachable":       {Run{Whole: true, Played: true, Counts: Counts{Unreachable: 1}, Failed: []Failure{{Task: Task{Name: "x"}, Host: "image", Unreachable: true}}}, 4, nil, `image could not be reached for the task "x": it says nothing of why`},
		"killed in between": {Run{Played: true, Failed: []Failure{{Ignored: true}}}, 250, nil, "ansible-playbook ended with status 250"},
		"cannot be played":  {Run{}, 1, refused, "ansible-playbook ended with status 1: ERROR! the role 'x' was not found in site/roles\n  \n  The error appears to be in 'site/site.yml'"},
	} {
		err := spec(o).Judge(c.run, c.status, c.said)
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || err != nil && got != c.want {
			t.Errorf("%s: %s", name, cmp.Diff(c.want, got))
		}
	}
	minimal := Run{Whole: true, Played: true, Counts: Counts{Failed: 1}, Failed: []Failure{{Message: "ModuleNotFoundError: No module named 'shutil'"}}}
	if err := spec(o).Judge(minimal, 2, nil); err == nil || !strings.Contains(err.Error(), "python3-minimal is too little") {
		t.Errorf("half a Python: %v", err)
	}
}

func TestJudgeSecond(t *testing.T) {
	s := spec(&op.Ansible{Playbook: "site/site.yml"})
	if err := s.JudgeSecond(Run{Whole: true, Played: true, Counts: Counts{OK: 3}}, 0, nil); err != nil {
		t.Error(err)
	}
	err := s.JudgeSecond(read(t, "site"), 0, nil)
	if err == nil || !strings.Contains(err.Error(), "\n  task \"web : Write the page\" (site/roles/web/tasks/main.yml:7)\n") || !strings.Contains(err.Error(), "idempotent = false") {
		t.Error(err)
	}
	many := Run{Whole: true, Played: true, Counts: Counts{Changed: 30}, Changed: make([]Task, 30)}
	if err := s.JudgeSecond(many, 0, nil); err == nil || !strings.Contains(err.Error(), "\n  and 20 more\n") {
		t.Error(err)
	}
	if err := s.JudgeSecond(read(t, "fails"), 2, nil); err == nil || !strings.HasPrefix(err.Error(), "the second run: the task ") {
		t.Error(err)
	}
}

func TestMessagesAreShortAndPlain(t *testing.T) {
	s := spec(&op.Ansible{Playbook: "site/site.yml"})
	text := plain("a\x1b[31mb\x00c\u202e\xff\r\n"+strings.Repeat("line\n", 100), maxText)
	if strings.ContainsAny(text, "\x1b\x00\u202e\r") || !strings.HasPrefix(text, "a [31mb c �\nline\n") {
		t.Errorf("%q", text[:30])
	}
	if lines := strings.Split(s.excerpt(text), "\n"); len(lines) != maxSaid || lines[1] != "  …" {
		t.Errorf("%q", lines)
	}
	if long := plain(strings.Repeat("é", maxText), maxText); len(long) > maxText {
		t.Errorf("%d bytes", len(long))
	}
	if got := (messages{Censored: "hidden", Msg: "x"}).message(); got != "hidden" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"site", "fails", "loop", "rescued"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".ndjson"))
		peer.Must(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"event":"task","status":"failed","seconds":1e999}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		run, err := Parse(strings.NewReader(string(text)), "image")
		if err != nil {
			return
		}
		if len(run.Plays) > maxPlays || len(run.Changed) > maxChanged || len(run.Failed) > maxFailed || run.OK < 0 || run.Counts.Changed < 0 {
			t.Errorf("%+v", run)
		}
		s := spec(&op.Ansible{Playbook: "site/site.yml"})
		for _, err := range []error{s.Judge(run, 2, nil), s.JudgeSecond(run, 0, nil)} {
			if err != nil && strings.ContainsAny(err.Error(), "\x00\x1b\r") {
				t.Errorf("%q", err)
			}
		}
		if _, err := json.Marshal(Report{[]Run{run}}); err != nil {
			t.Error(err)
		}
	})
}
