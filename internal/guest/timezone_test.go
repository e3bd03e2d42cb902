package guest

import (
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestTimezone(t *testing.T) {
	for name, zone := range map[string]string{"zone": "Europe/Berlin", "link-in-zoneinfo": "UTC", "same-again": "Etc/UTC"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newGuest(t).golden(t, name, &op.Timezone{Zone: zone})
		})
	}
}

func TestTimezoneReplacesACopy(t *testing.T) {
	g := newGuest(t)
	for _, name := range []string{"etc/localtime", "etc/timezone"} {
		peer.Must(t, os.Remove(filepath.Join(g.dir, name)))
	}
	peer.Must(t, os.WriteFile(filepath.Join(g.dir, "etc/localtime"), []byte("TZif2 old"), 0o644))
	g.golden(t, "copy", &op.Timezone{Zone: "Europe/Berlin"})
}

// Only Debian has /etc/timezone; elsewhere it would be a file that nobody reads.
func TestTimezoneElsewhereMakesNoOtherFile(t *testing.T) {
	g := newGuest(t)
	for _, name := range []string{"etc/debian_version", "etc/timezone"} {
		peer.Must(t, os.Remove(filepath.Join(g.dir, name)))
	}
	g.golden(t, "not-debian", &op.Timezone{Zone: "Europe/Berlin"})
}

func TestTimezoneRefuses(t *testing.T) {
	g := newGuest(t)
	for _, zone := range []string{"Europe/Berlim", "Europe"} {
		g.refuse(t, &op.Timezone{Zone: zone}, "install tzdata first, or correct the name")
	}
}
