package plan

import (
	"strconv"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/identity"
	"herdbook/internal/store"
)

// TestKey names the proof that a layer passed a test.
//
// Left out on purpose: what tests are called, the time limits (they decide whether an
// answer comes, not which), and the host's own goss where the definition names none, as
// with its other programs.
func TestKey(layer digest.Digest, t definition.Test) store.Key {
	var l lines
	l.add("format", format)
	l.add("layer", string(layer))
	l.add("test", t.Kind+" 1")
	l.add("firmware", t.Firmware)
	l.flag("network", t.Network)
	l.flag("alone", t.Alone)
	if t.Kind == "clones" {
		l.add("rule", identity.Rules()...) // spelled out, so that a new one is a new key
		l.add("allow", t.Allow...)
		l.add("require", t.Require...)
	}
	for _, c := range t.Commands {
		l.add("command", c.Run)
		l.add("expect", c.Expect)
		l.add("status", strconv.Itoa(c.ExitStatus))
		l.addIf("user", c.User)
	}
	if p := t.Port; p != nil {
		l.add("port", strconv.Itoa(p.Port))
		l.add("protocol", p.Protocol)
		l.addIf("address", p.Address)
		l.add("open", strconv.FormatBool(p.Open))
	}
	if s := t.Service; s != nil {
		l.add("service", s.Name)
		l.add("running", strconv.FormatBool(s.Running))
		if s.Enabled != nil {
			l.add("enabled", strconv.FormatBool(*s.Enabled))
		}
	}
	if g := t.Goss; g != nil {
		gossLines(&l, *g)
	}
	return sum(l)
}

func gossLines(l *lines, g definition.Goss) {
	l.add("gossfile", g.File)
	inputLines(l, g.Files)
	l.flag("vars", len(g.Vars) > 0)
	inputLines(l, g.Vars)
	l.flag("program", len(g.Program) > 0)
	inputLines(l, g.Program)
}
