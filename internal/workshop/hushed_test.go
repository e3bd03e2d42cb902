package workshop

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/puppet"
	"herdbook/internal/wire"
)

// What a guest says anywhere else than through its agent is blotted out as well.
func TestNothingOfAMachineTellsASecret(t *testing.T) {
	var said []string
	sink := hushed(func(e event.Event) { said = append(said, e.Text) }, []string{"hunter2", "first line\nsecond line"})
	sink.Line(event.Console, "login: hunter2")
	sink.Emit(event.Event{Kind: event.Phase, Text: "hunter2"})
	sink.Line(event.Kernel, "the second line is there")
	if got := strings.Join(said, "|"); got != "login: ***|***|the *** is there" {
		t.Error(got)
	}
	s := Session{Secrets: []string{"hunter2"}}
	checked := event.Event{}
	hushed(func(e event.Event) { checked = e }, s.Secrets).Emit(event.Event{Kind: event.Checked, Verdict: &event.Verdict{
		Text: "hunter2", Cases: []event.Case{{Name: "hunter2", Text: "hunter2", Output: "hunter2"}}, Log: []string{"hunter2"},
	}})
	result := s.hush(wire.Result{Error: "hunter2", State: "hunter2", Failed: []string{"hunter2"}, Puppet: &puppet.Outcome{
		Left: "hunter2", Report: &puppet.Report{Failures: []puppet.Resource{{Message: "hunter2"}}},
	}})
	text, err := json.Marshal([]any{checked, result})
	if err != nil || strings.Contains(string(text), "hunter2") || strings.Count(string(text), "***") != 10 {
		t.Errorf("%s, %v", text, err)
	}
	for _, reason := range []machine.Reason{machine.Reset, machine.Panicked, machine.Cancelled} {
		err := s.ended(&machine.Exit{Reason: reason, Last: "token=hunter2", Panic: "Kernel panic: hunter2"})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "***") {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

// A step that ends its machine is told so; other work has no such thing.
func TestAStepThatRestartsTheMachine(t *testing.T) {
	steps := Session{Job: wire.Job{Steps: []wire.Step{{Name: "x"}}}}
	for _, c := range []struct {
		s     Session
		err   error
		wants bool
	}{
		{steps, &machine.Exit{Reason: machine.Reset}, true},
		{steps, &machine.Exit{Reason: machine.Crashed}, false},
		{Session{}, &machine.Exit{Reason: machine.Reset}, false},
	} {
		err := c.s.ended(c.err)
		if !errors.Is(err, c.err) || strings.Contains(err.Error(), leaveToUs) != c.wants {
			t.Errorf("%v", err)
		}
	}
	if err := steps.ended(nil); err != nil {
		t.Error(err)
	}
}
