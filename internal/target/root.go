package target

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// Tar is the whole root of the image, packed: for whoever unpacks it somewhere.
type Tar struct {
	Compression string `hcl:"compression,optional" json:"compression"` // gzip, zstd or none; the default is gzip
}

// tarCompressions are those of a tar.
var tarCompressions = []string{"gzip", "zstd", "none"}

// Kind implements Target.
func (*Tar) Kind() string { return "tar" }

// Version implements Target.
func (*Tar) Version() int { return 1 }

// Variant implements Target.
func (*Tar) Variant() string { return "" }

// Adjustments implements Target: the root is delivered as it is.
func (*Tar) Adjustments() []Adjustment { return nil }

// Check implements Target.
func (t *Tar) Check() []op.Problem {
	if slices.Contains(tarCompressions, t.Compression) {
		return nil
	}
	return []op.Problem{{Field: "compression", Message: fmt.Sprintf("there is no %q", t.Compression), Hint: "say " + strings.Join(tarCompressions, ", ")}}
}

// WSL is a distribution for the Windows Subsystem for Linux.
type WSL struct {
	Name    string `hcl:"name,optional" json:"name"`       // of the distribution; the default is the image's
	User    string `hcl:"user,optional" json:"user"`       // who is logged in, an account of the image; the default is root
	Systemd bool   `hcl:"systemd,optional" json:"systemd"` // starts with it; the default is true
}

var (
	wslName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	account = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
)

// Kind implements Target.
func (*WSL) Kind() string { return "wsl" }

// Version implements Target.
func (*WSL) Version() int { return 1 }

// Variant implements Target.
func (*WSL) Variant() string { return "" }

// Check implements Target.
func (w *WSL) Check() []op.Problem {
	var problems []op.Problem
	if !wslName.MatchString(w.Name) {
		problems = append(problems, op.Problem{Field: "name", Message: fmt.Sprintf("%q is no name of letters, digits, dots and dashes", w.Name)})
	}
	if w.User != "" && !account.MatchString(w.User) {
		problems = append(problems, op.Problem{Field: "user", Message: fmt.Sprintf("%q is no name of an account", w.User)})
	}
	return problems
}

// wslMasked are units that disturb what WSL does itself: its network, its /tmp, its devices.
// https://learn.microsoft.com/windows/wsl/build-custom-distro
var wslMasked = []string{
	"systemd-resolved.service", "systemd-networkd.service", "NetworkManager.service", "systemd-tmpfiles-setup.service", "systemd-tmpfiles-clean.service",
	"systemd-tmpfiles-clean.timer", "systemd-tmpfiles-setup-dev-early.service", "systemd-tmpfiles-setup-dev.service", "tmp.mount",
}

// Adjustments implements Target.
func (w *WSL) Adjustments() []Adjustment {
	conf := fmt.Sprintf("[boot]\nsystemd=%t\n", w.Systemd)
	if w.User != "" {
		conf += "\n[user]\ndefault=" + w.User + "\n"
	}
	steps := []Adjustment{
		{Name: "wsl.conf", Operation: &op.File{Path: "/etc/wsl.conf", Content: conf, Mode: "0644"}},
		{Name: "wsl-distribution.conf", Operation: &op.File{
			Path: "/etc/wsl-distribution.conf", Content: "[oobe]\ndefaultName=" + w.Name + "\n\n[shortcut]\nenabled=true\n\n[windowsterminal]\nenabled=true\n", Mode: "0644",
		}},
	}
	if w.Systemd {
		mask := &op.Link{Target: "/dev/null"}
		for _, unit := range wslMasked {
			mask.Paths = append(mask.Paths, "/etc/systemd/system/"+unit)
		}
		steps = append(steps, Adjustment{Name: "mask", Operation: mask})
	}
	return steps
}

// Incus is an image for Incus and LXD: a container, or a virtual machine.
type Incus struct {
	Type string `hcl:"type,optional" json:"type"` // of IncusTypes; the default is the first
}

// IncusTypes are the kinds of instances.
var IncusTypes = []string{"container", "virtual-machine"}

// Kind implements Target.
func (*Incus) Kind() string { return "incus" }

// Version implements Target.
func (*Incus) Version() int { return 1 }

// Variant implements Target.
func (i *Incus) Variant() string { return i.Type }

// Adjustments implements Target: what a machine needs and a container has not is left out
// of the artefact.
func (*Incus) Adjustments() []Adjustment { return nil }

// Check implements Target.
func (i *Incus) Check() []op.Problem {
	if slices.Contains(IncusTypes, i.Type) {
		return nil
	}
	return []op.Problem{{Field: "type", Message: fmt.Sprintf("there is no %q", i.Type), Hint: "say " + strings.Join(IncusTypes, " or ")}}
}
