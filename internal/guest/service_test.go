package guest

import (
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestServiceRunsSystemctl(t *testing.T) {
	yes, no := true, false
	g := newGuest(t)
	for name, o := range map[string]*op.Service{
		"enabled":             {Name: "ssh", Enabled: &yes},
		"disabled":            {Name: "apt-daily.timer", Enabled: &no},
		"masked":              {Name: "getty@tty1.service", Masked: true},
		"disabled-and-masked": {Name: "ssh", Enabled: &no, Masked: true},
	} {
		g.commands(t, name, o)
	}
}

func TestServiceRefuses(t *testing.T) {
	yes := true
	g := newGuest(t)
	g.Runner = &recorder{failing: "unmask", fail: 1}
	g.refuse(t, &op.Service{Name: "ssh", Enabled: &yes}, "systemctl ended with status 1")
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/bin/systemctl")))
	g.refuse(t, &op.Service{Name: "ssh", Enabled: &yes}, "no systemctl")
}
