package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/op"
	"herdbook/internal/pin"
)

// Boot steps in a row are one step of the plan as long as they want the same machine.
func TestBootStepsShareABoot(t *testing.T) {
	step := func(name string, change func(*definition.Step)) definition.Step {
		s := definition.Step{Kind: KindBoot, Name: name, Operation: &op.Boot{Script: name}, Firmware: "bios"}
		if change != nil {
			change(&s)
		}
		return s
	}
	d := &definition.Definition{Images: []definition.Image{{Name: "i", Steps: []definition.Step{
		step("a", nil), step("b", nil), step("c", func(s *definition.Step) { s.Reboot = true }), step("d", nil),
		step("e", func(s *definition.Step) { s.Firmware = "uefi" }), step("f", func(s *definition.Step) { s.Firmware, s.Network = "uefi", network() }),
		step("f2", func(s *definition.Step) { s.Firmware, s.Network = "uefi", network(); s.Network.Proxy.Value = "another" }),
		step("f3", func(s *definition.Step) { s.Firmware, s.Network = "uefi", network(); s.Network.HostPorts = nil }),
		{Kind: "run", Name: "g", Operation: &op.Run{Script: "true"}}, step("h", nil),
	}}}}
	p, err := New(d, pin.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, s := range p.Images[0].Steps {
		labels = append(labels, s.Label())
	}
	if diff := cmp.Diff([]string{`boot "a", "b"`, `boot "c", "d"`, `boot "e"`, `boot "f", "f2"`, `boot "f3"`, `run "g"`, `boot "h"`}, labels); diff != "" {
		t.Error(diff)
	}
}
