package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/clones"
	"herdbook/internal/definition"
	"herdbook/internal/event"
	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
	"herdbook/internal/store"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// test is one of a kind that needs nothing more.
func test(kind, name string) definition.Test {
	return definition.Test{Kind: kind, Name: name, Firmware: "bios", Position: "herdbook.hcl:9"}
}

func TestTestsShareABootWhereTheyCan(t *testing.T) {
	uefi, networked, alone := test("port", "uefi"), test("port", "net"), test("command", "alone")
	uefi.Firmware, networked.Network, alone.Alone = "uefi", true, true
	for _, c := range []struct {
		tests []definition.Test
		want  string // names, groups apart
	}{
		{[]definition.Test{test("boots", "a"), test("port", "b"), test("goss", "c")}, "a b c"},
		{[]definition.Test{test("boots", "a"), uefi, test("port", "b"), networked, test("clones", "c"), alone, test("service", "d"), test("clones", "e")}, "a b d | uefi | net | c | alone | e"},
		{[]definition.Test{alone, test("boots", "a"), test("clones", "c"), test("port", "b")}, "alone | a b | c"},
	} {
		var pending []*trial
		for _, one := range c.tests {
			pending = append(pending, &trial{Test: one})
		}
		var groups []string
		for len(pending) > 0 {
			var group []*trial
			group, pending = together(pending)
			var names []string
			for _, one := range group {
				names = append(names, one.Name)
			}
			groups = append(groups, strings.Join(names, " "))
		}
		if got := strings.Join(groups, " | "); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// sitFor makes a sitting of tests as if it had a machine.
func sitFor(t *testing.T, sink event.Sink, tests ...definition.Test) *sitting {
	t.Helper()
	b := newBuilder(t, sink)
	s := &sitting{run: &run{Builder: b}, image: "web", log: &journal{w: &strings.Builder{}, now: b.Now}, timer: time.NewTimer(time.Hour)}
	for _, one := range tests {
		s.trials = append(s.trials, &trial{Test: one, sink: event.Sink(sink).For("web", one.Label())})
	}
	s.top = lay(t, b.Store, store.Key(strings.Repeat("0", 64)), "")
	s.turn(0)
	return s
}

// Each test is told when its turn comes and when it ends, and what happens between is its.
func TestASitting(t *testing.T) {
	var seen recorder
	s := sitFor(t, seen.sink, test("boots", ""), test("port", "p"), test("goss", "g"))
	sink := event.Sink(s.sink)
	sink.Line(event.Console, "booting")
	sink.Line(event.Agent, "on the way")
	sink.Emit(event.Event{Kind: event.Checking})
	sink.Line(event.Agent, "a.service: why")
	sink.Emit(event.Event{Kind: event.Checked, Verdict: &event.Verdict{Cases: []event.Case{{Name: "boot", Outcome: event.Failed, Text: "failed units: a.service"}}}})
	sink.Emit(event.Event{Kind: event.Checking, Done: 1})
	sink.Emit(event.Event{Kind: event.Checked, Done: 1, Verdict: &event.Verdict{Cases: []event.Case{{Outcome: event.Passed}}}})
	sink.Emit(event.Event{Kind: event.Checking, Done: 2})
	sink.Line(event.Console, "stuck")
	sink.Emit(event.Event{Kind: event.Checked, Done: 2, Verdict: &event.Verdict{Text: "it was not done after 1s", Hung: true}})
	left, err := s.settle(t.Context(), nil)
	if len(left) > 0 || err != nil {
		t.Errorf("left %d, %v", len(left), err)
	}
	var log []string
	for _, one := range s.trials {
		var failure *StepError
		if errors.As(one.err, &failure) {
			log = append(log, failure.Error()+fmt.Sprint(failure.Log))
		} else {
			log = append(log, fmt.Sprint(one.err))
		}
	}
	if diff := cmp.Diff([]string{
		`image "web", test "boots" by BIOS (herdbook.hcl:9): failed units: a.service[a.service: why]`, "<nil>",
		`image "web", test "goss" "g" by BIOS (herdbook.hcl:9): it was not done after 1s[booting on the way a.service: why stuck]`,
	}, log); diff != "" {
		t.Error(diff)
	}
	var order []string
	for _, line := range seen.list {
		if !strings.HasSuffix(line, " log") {
			order = append(order, strings.TrimPrefix(line, "web test "))
		}
	}
	if diff := cmp.Diff([]string{`"boots" by BIOS started`, `"boots" by BIOS failed`, `"port" "p" by BIOS started`, `"port" "p" by BIOS done`, `"goss" "g" by BIOS started`, `"goss" "g" by BIOS failed`}, order); diff != "" {
		t.Error(diff)
	}
	// What is known of them is in the store: one proof, two failures.
	s.started, s.how = true, "tcg"
	peer.Must(t, s.record(t.Context()))
	list, err := s.Store.Tests(s.top)
	peer.Must(t, err)
	for i, one := range s.trials {
		_, ok, err := s.Store.Proof(s.top, plan.TestKey(s.top, one.Test))
		if len(list) != 3 || ok != (i == 1) || err != nil {
			t.Errorf("%s: %v, %v", one.Label(), ok, err)
		}
	}
}

// A machine that is lost takes the test with it that was asked, and not those behind.
func TestALostMachine(t *testing.T) {
	lost := errors.New("the machine powered off before the work was done")
	for name, c := range map[string]struct {
		events []event.Event
		err    error
		failed string // names
		left   string
		rest   bool // an error of none of them
	}{
		"before the first": {nil, lost, "a b c", "", false},
		"in the first":     {[]event.Event{{Kind: event.Checking}}, lost, "a", "b c", false},
		"between":          {[]event.Event{{Kind: event.Checking}, passed(0)}, lost, "", "b c", false},
		"in the second":    {[]event.Event{{Kind: event.Checking}, passed(0), {Kind: event.Checking, Done: 1}}, lost, "b", "c", false},
		"behind the last":  {[]event.Event{{Kind: event.Checking}, passed(0), {Kind: event.Checking, Done: 1}, passed(1), {Kind: event.Checking, Done: 2}, passed(2)}, lost, "", "", true},
		"without a word":   {[]event.Event{{Kind: event.Checking}, passed(0)}, nil, "b c", "", false},
		"in the guest":     {nil, &workshop.FailedError{Result: wire.Result{Error: "no systemd"}}, "a b c", "", false},
	} {
		s := sitFor(t, nil, test("port", "a"), test("port", "b"), test("port", "c"))
		for _, e := range c.events {
			s.sink(e)
		}
		left, err := s.settle(t.Context(), c.err)
		var failed, names []string
		for _, one := range s.trials {
			if one.err != nil {
				failed = append(failed, one.Name)
			}
		}
		for _, one := range left {
			names = append(names, one.Name)
		}
		if strings.Join(failed, " ") != c.failed || strings.Join(names, " ") != c.left || (err != nil) != c.rest {
			t.Errorf("%s: failed %q, left %q, %v", name, failed, names, err)
		}
	}
	// After an interruption nothing is asked again, and nothing is recorded.
	ctx, cancel := context.WithCancel(t.Context())
	s := sitFor(t, nil, test("port", "a"), test("port", "b"))
	s.sink(event.Event{Kind: event.Checking})
	s.started = true
	cancel()
	left, err := s.settle(ctx, context.Canceled)
	peer.Must(t, errors.Join(err, s.record(ctx)))
	if list, err := s.Store.Tests(s.top); len(left) > 0 || len(list) > 0 || err != nil {
		t.Errorf("left %d, recorded %d, %v", len(left), len(list), err)
	}
}

func passed(i int64) event.Event {
	return event.Event{Kind: event.Checked, Done: i, Verdict: &event.Verdict{Cases: []event.Case{{Outcome: event.Passed}}}}
}

// The proof that was had is told with its record; what is missing for the others is told
// of each, in the order of the definition.
func TestAllTestsAreTold(t *testing.T) {
	var seen recorder
	b := newBuilder(t, seen.sink)
	b.Now = time.Now
	image := hostnames("web", "", "a")
	a := lay(t, b.Store, image.Steps[0].Key(""), "")
	alone := test("command", "c")
	alone.Alone = true
	image.Tests = []definition.Test{test("boots", ""), alone, test("port", "p"), test("clones", "")}
	peer.Must(t, b.Store.Record(plan.TestKey(a, image.Tests[2]), a))
	_, err := b.Build(t.Context(), &plan.Plan{Images: []plan.Image{image}})
	if !errors.Is(err, workshop.ErrNoAgent) {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(err.Error()) {
		_, rest, _ := strings.Cut(line, "test ")
		name, _, _ := strings.Cut(rest, " by")
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{`"boots"`, `"command" "c"`, `"clones"`}, names); diff != "" {
		t.Error(diff)
	}
	seen.has(t, `web test "boots" by BIOS failed`, `web test "port" "p" by BIOS cached`, `web test "clones" by BIOS failed`)
	if list, err := b.Store.Tests(a); err != nil || len(list) > 0 {
		t.Errorf("tests that were never begun are recorded: %+v, %v", list, err)
	}
}

func TestWhatTestsNeedIsLaidDown(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"checks/goss.yaml": 0o644, "one.yml": 0o644, "vars.json": 0o644, "mine": 0o755, "path/goss": 0o755} {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), mode))
	}
	laid := func(name string) []definition.Input {
		list, err := definition.Laid(filepath.Join(dir, name), true)
		peer.Must(t, err)
		return list
	}
	whole, single := test("goss", "whole"), test("goss", "single")
	whole.Goss = &definition.Goss{File: "goss.yaml", Files: laid("checks"), Vars: laid("vars.json")}
	single.Goss = &definition.Goss{File: "one.yml", Files: laid("one.yml"), Program: laid("mine")}
	single.Timeout = time.Minute
	port := test("port", "p")
	port.Port = &op.PortCheck{Port: 80}
	s := sitFor(t, nil, whole, port, single)
	t.Setenv("PATH", filepath.Join(dir, "path")) // behind the programs that the store needs
	checks, operations, inputs, err := s.prepare()
	peer.Must(t, err)
	const dir0, dir2 = "/usr/lib/herdbook/tests/0/", "/usr/lib/herdbook/tests/2/"
	if diff := cmp.Diff([]wire.Check{
		{Kind: "goss", Timeout: testTimeout, Goss: &op.GossCheck{File: dir0 + "goss/goss.yaml", Vars: dir0 + "vars.json", Program: dir0 + "program", Own: true}},
		{Kind: "port", Timeout: testTimeout, Port: port.Port},
		{Kind: "goss", Timeout: time.Minute, Goss: &op.GossCheck{File: dir2 + "goss/one.yml", Program: dir2 + "program"}},
	}, checks); diff != "" {
		t.Error(diff)
	}
	var to []string
	for i, o := range operations {
		if c, ok := o.(*op.Copy); ok {
			to = append(to, filepath.Base(inputs[i][0].Path)+" "+c.Destination)
		}
	}
	if diff := cmp.Diff([]string{
		"goss " + dir0 + "program", "checks " + dir0 + "goss", "vars.json " + dir0 + "vars.json", "mine " + dir2 + "program", "one.yml " + dir2 + "goss/one.yml",
	}, to); diff != "" {
		t.Error(diff)
	}
	// A host without one lends none.
	t.Setenv("PATH", t.TempDir())
	if checks, _, _, err := s.prepare(); err != nil || checks[0].Goss.Program != "" || !checks[0].Goss.Own || checks[2].Goss.Program == "" {
		t.Errorf("%+v, %v", checks[0].Goss, err)
	}
}

func TestTheLimitOfABoot(t *testing.T) {
	short, long, command := test("boots", "short"), test("boots", "long"), test("command", "c")
	short.Timeout, long.Timeout, command.Timeout = time.Minute, time.Hour, time.Second
	for _, c := range []struct {
		tests []definition.Test
		want  time.Duration
	}{
		{[]definition.Test{command}, testTimeout}, {[]definition.Test{test("boots", "")}, testTimeout}, {[]definition.Test{long, command}, time.Hour},
		{[]definition.Test{command, long, short}, time.Minute},
	} {
		if got := sitFor(t, nil, c.tests...).bootLimit(); got != c.want {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
}

func TestClonesAreJudged(t *testing.T) {
	if v := clonesVerdict(nil); !v.Passed() || len(v.Cases) != 1 {
		t.Errorf("%+v", v)
	}
	v := clonesVerdict(&clones.Error{Units: []error{errors.New("clone 1: failed units: x")}, Defects: []identity.Defect{{Name: "hostname", Reason: "both have the same", Hint: "x"}}})
	if len(v.Cases) != 2 || v.Cases[1].Name != "hostname" || v.Err().Error() != "clone 1: failed units: x\nhostname: both have the same; x" {
		t.Errorf("%+v", v)
	}
}

func TestSecretsOfAPlanAreBlottedOut(t *testing.T) {
	image := hostnames("web", "", "a")
	image.Steps = append(image.Steps,
		plan.Step{Step: definition.Step{Operation: &op.Run{Environment: map[string]op.Secret{"T": {Name: "T", Value: "hunter2"}}}}},
		plan.Step{Step: definition.Step{Operation: &op.Run{}, Network: &definition.Network{Proxy: op.Secret{Name: "X", Value: "http://u:hunter%204@p", Parts: []string{"http://u:hunter%204@p"}}}}},
		plan.Step{Install: &definition.Install{Answers: op.Secret{Name: "P", Value: "d-i x string hunter3\n", Parts: []string{"hunter3"}}}})
	if diff := cmp.Diff([]string{"hunter2", "http://u:hunter%204@p", "http://u:hunter%204@p", "hunter 4", "hunter%204", "hunter3"}, secretsOf(&plan.Plan{Images: []plan.Image{image}})); diff != "" {
		t.Error(diff)
	}
}

func TestACommandOfTheHostTellsNoSecret(t *testing.T) {
	var said []string
	last := tell(strings.NewReader("+ sign --token hunter2\n\nhunter2 is refused\n\n"), []string{"hunter2"}, func(e event.Event) { said = append(said, e.Text) })
	if diff := cmp.Diff([]string{"+ sign --token ***", "", "*** is refused", ""}, said); diff != "" || last != "*** is refused" {
		t.Errorf("%q: %s", last, diff)
	}
}
