package plan

import (
	"fmt"
	"strings"
	"testing"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/pin"
)

func stock() *definition.Template {
	return &definition.Template{Repository: "upstream", Address: "https://images.example.org", Image: "debian-12", Channel: "testing", Arch: "x86_64", Refresh: "daily"}
}

func stockPin() pin.Pin {
	return pin.Pin{
		Name: stock().PinName(), URL: "https://images.example.org/images/debian-12.xz", Checksum: digest.Checksum("sha512:" + strings.Repeat("0f", 64)),
		Dated: "today", Revision: 5, Format: "raw", Size: 6 << 30,
	}
}

func ofStock(size int64) *definition.Definition {
	return &definition.Definition{Images: []definition.Image{{
		Name: "web", Template: stock(), Disk: definition.Disk{Size: size}, Position: "herdbook.hcl:1",
		Steps: []definition.Step{{Kind: "hostname", Name: "name", Operation: &op.Hostname{Name: "calf"}}},
	}}}
}

func TestKeysOfATemplateAreWhatTheyWere(t *testing.T) {
	p := planned(t, ofStock(10<<30), pin.Lock{}.With(stockPin()))
	var out strings.Builder
	parent := digest.Digest("")
	for _, step := range p.Images[0].Steps[:2] {
		fmt.Fprintf(&out, "%s\n  key %s\n", step.Label(), step.Key(parent))
		for _, line := range step.Lines(parent) {
			fmt.Fprintf(&out, "  %s\n", line)
		}
		parent = of("parent")
	}
	peer.Golden(t, "keys-template", []byte(out.String()))
}

// A disk is made larger by a step of its own, if it is not as large already, and
// never smaller.
func TestATemplateGrows(t *testing.T) {
	lock := pin.Lock{}.With(stockPin())
	for _, c := range []struct {
		size int64
		want string
	}{
		{0, `template "debian-12@testing", hostname "name"`},
		{6 << 30, `template "debian-12@testing", hostname "name"`},
		{10 << 30, `template "debian-12@testing", grow, hostname "name"`},
	} {
		var labels []string
		p := planned(t, ofStock(c.size), lock)
		for _, step := range p.Images[0].Steps {
			labels = append(labels, step.Label())
		}
		if got := strings.Join(labels, ", "); got != c.want {
			t.Errorf("a disk of %d bytes: %s, want %s", c.size, got, c.want)
		}
	}
	_, err := New(ofStock(4<<30), lock)
	if err == nil || !strings.Contains(err.Error(), "herdbook makes no disk smaller") {
		t.Errorf("a smaller disk: %v", err)
	}
}

func TestATemplateThatIsNotPinned(t *testing.T) {
	other := stockPin()
	other.Name = pin.TemplateName(stock().Address, "debian-12", "stable", "x86_64")
	for _, lock := range []pin.Lock{{}, pin.Lock{}.With(other)} {
		if _, err := New(ofStock(0), lock); err == nil || !strings.Contains(err.Error(), "template https://images.example.org debian-12@testing x86_64 is not pinned") {
			t.Errorf("the error is %v", err)
		}
	}
}
