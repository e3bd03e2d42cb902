package target

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"

	"herdbook/internal/op"
)

// Vagrant is a box for one of Vagrant's providers.
type Vagrant struct {
	Provider   string `hcl:"provider,optional" json:"provider"` // one of vagrantProviders
	Additions  string `hcl:"guest_additions,optional" json:"guest_additions"`
	ISO        string `hcl:"guest_additions_iso,optional" json:"guest_additions_iso,omitempty"` // path on the host
	BoxVersion string `hcl:"version,optional" json:"version,omitempty"`                         // the default is the layer's time
	CPUs       int    `hcl:"cpus,optional" json:"cpus"`
	Memory     int    `hcl:"memory,optional" json:"memory"` // MiB, as Vagrantfiles have it
}

var (
	vagrantProviders = []string{"virtualbox", "libvirt"}
	vagrantAdditions = []string{"none", "package", "iso"}
	// boxVersion is one that Vagrant can compare: numbers, and no pre-release.
	boxVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+){0,5}$`)
)

// vagrantScript makes of an image what Vagrant expects of every box.
//
//go:embed vagrant.sh
var vagrantScript string

//go:embed virtualbox.sh
var virtualboxScript string

// additionsScript proves that the kernel has the modules that they need.
//
//go:embed additions.sh
var additionsScript string

// isoScript installs them from an ISO.
//
//go:embed additions-iso.sh
var isoScript string

// Kind implements Target.
func (*Vagrant) Kind() string { return "vagrant" }

// Version implements Target.
func (*Vagrant) Version() int { return 1 }

// Variant implements Target.
func (v *Vagrant) Variant() string { return v.Provider }

// Check implements Target.
func (v *Vagrant) Check() []op.Problem {
	var problems []op.Problem
	bad := func(field, hint, format string, args ...any) {
		problems = append(problems, op.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if !slices.Contains(vagrantProviders, v.Provider) {
		bad("provider", "say virtualbox or libvirt", "there is no box for %q", v.Provider)
	}
	switch {
	case !slices.Contains(vagrantAdditions, v.Additions):
		bad("guest_additions", "say package, iso or none", "there is no %q", v.Additions)
	case v.Additions != "none" && v.Provider != "virtualbox":
		bad("guest_additions", "leave them away", "they are VirtualBox's, and the provider is %s", v.Provider)
	}
	if (v.Additions == "iso") != (v.ISO != "") {
		bad("guest_additions_iso", "it goes with guest_additions = \"iso\"", "neither goes without the other")
	}
	if v.BoxVersion != "" && !boxVersion.MatchString(v.BoxVersion) {
		bad("version", "at most six numbers with dots between them, such as 1.2.0", "%q is no version of a box", v.BoxVersion)
	}
	return append(problems, checkMachine(v.CPUs, v.Memory)...)
}

// Adjustments implements Target. What the packages left that names one machine is removed
// last: an image that was generalised had no sshd then.
func (v *Vagrant) Adjustments() []Adjustment {
	adjustments := []Adjustment{
		{Name: "packages", Network: true, Operation: &op.Packages{
			Missing: true, Install: []string{"openssh-server", "sudo", "rsync", "nfs-common"},
			Elsewhere: map[string]string{
				"dnf": "openssh-server sudo rsync nfs-utils", "dnf5": "openssh-server sudo rsync nfs-utils", "yum": "openssh-server sudo rsync nfs-utils",
				"zypper": "openssh sudo rsync nfs-client", "pacman": "openssh sudo rsync nfs-utils", "apk": "openssh sudo rsync nfs-utils",
			},
		}},
		{Name: "account", Network: true, Operation: &op.Run{Script: vagrantScript}},
	}
	if v.Provider == "virtualbox" {
		adjustments = append(adjustments, virtualboxDrivers())
	}
	adjustments = append(adjustments, v.additions()...)
	return append(adjustments, Adjustment{Name: "generalise", Operation: &op.Sysprep{Enable: []string{
		"ssh-hostkeys", "machine-id", "random-seed", "dhcp-client-state", "apt-lists", "package-manager-cache", "logfiles",
	}}})
}

// virtualboxDrivers see to it that VirtualBox's machine can be started.
func virtualboxDrivers() Adjustment {
	return Adjustment{Name: "drivers", Operation: &op.Run{Script: virtualboxScript}}
}

// additions install the guest additions, and prove that they go with the kernel.
func (v *Vagrant) additions() []Adjustment {
	proof := Adjustment{Name: "guest-modules", Operation: &op.Run{Script: additionsScript}}
	switch v.Additions {
	case "package":
		return []Adjustment{{Name: "guest-additions", Network: true, Operation: &op.Packages{
			Missing: true, Install: []string{"virtualbox-guest-utils"},
			Elsewhere: map[string]string{
				"dnf": "virtualbox-guest-additions", "dnf5": "virtualbox-guest-additions", "zypper": "virtualbox-guest-tools",
				"pacman": "virtualbox-guest-utils-nox", "apk": "virtualbox-guest-additions",
			},
		}}, proof}
	case "iso":
		return []Adjustment{
			{Name: "guest-additions-iso", Operation: &op.Copy{Source: v.ISO, Destination: "/var/tmp/herdbook-guest-additions.iso"}},
			{Name: "guest-additions", Network: true, Operation: &op.Run{Script: isoScript}},
			proof,
		}
	}
	return nil
}
