package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"herdbook/internal/ansible"
	"herdbook/internal/machine"
	"herdbook/internal/program"
	"herdbook/internal/source"
	"herdbook/internal/survey"
	"herdbook/internal/workshop"
)

// finding is what the doctor found of one thing.
type finding struct {
	thing string
	state string // what there is
	cure  string // what to do; "" if nothing is wrong
	hard  bool   // builds fail without it
}

// programs are what herdbook starts on the host, and the packages of Debian and
// Ubuntu that they come from.
var programs = []struct {
	name, pkg, use string
	hard           bool // builds fail without it, whatever they are of
}{
	{"qemu-system-x86_64", "qemu-system-x86", "machines", true},
	{"qemu-img", "qemu-utils", "disk images", true},
	{"mmdebstrap", "mmdebstrap", "bootstrap", true},
	{"mke2fs", "e2fsprogs", "bootstrap", true},
	{"tar", "tar", "bootstrap", true},
	{"mksquashfs", "squashfs-tools", "targets \"ramdisk\" and \"iso\"", false},
	{"xorriso", "xorriso", "target \"iso\"", false},
	{"mcopy", "mtools", "target \"iso\"", false},
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has, what it lacks, and how to get it",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			findings, err := a.examine(c.Context())
			if err != nil {
				return err
			}
			lacking := false
			w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
			for _, f := range findings {
				mark := "✓"
				switch {
				case f.cure != "" && f.hard:
					mark, lacking = "✗", true
				case f.cure != "":
					mark = "!"
				}
				fmt.Fprintf(w, "%s %s\t%s\n", mark, f.thing, f.state)
				if f.cure != "" {
					fmt.Fprintf(w, "  \t%s\n", f.cure)
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if lacking {
				return errLacking
			}
			return nil
		},
	}
}

func (a *app) examine(ctx context.Context) ([]finding, error) {
	var list []finding
	for _, p := range programs {
		f := finding{thing: p.name, state: "for " + p.use, hard: p.hard}
		if path, err := program.Find(p.name); err != nil {
			f.state, f.cure = "not installed; needed for "+p.use, "apt-get install "+p.pkg
		} else {
			f.state = path + ", for " + p.use
		}
		list = append(list, f)
	}
	return append(list, a.firmware(), keyring(), playbooks(), packageCache(), namespaces(), agent(), a.memory(), a.space(), a.kvm(ctx)), nil
}

func (a *app) firmware() finding {
	code, _, err := machine.Firmwares()
	if err != nil {
		return finding{"UEFI firmware", "not installed; needed for tests that boot by UEFI", "apt-get install ovmf", false}
	}
	return finding{thing: "UEFI firmware", state: code}
}

func keyring() finding {
	if _, err := os.Stat(source.DebianKeyring); err != nil {
		return finding{"Debian's keys", "not installed; needed to bootstrap Debian", "apt-get install debian-archive-keyring", false}
	}
	return finding{thing: "Debian's keys", state: source.DebianKeyring}
}

func playbooks() finding {
	for _, name := range []string{ansible.Program, ansible.SSH} {
		var missing *program.MissingError
		if _, err := program.Find(name); errors.As(err, &missing) {
			return finding{"Ansible", name + " is not installed; needed for step \"ansible\"", "apt-get install " + missing.Package, false}
		}
	}
	return finding{thing: "Ansible", state: "there, for step \"ansible\""}
}

func packageCache() finding {
	path, err := program.Find("apt-cacher-ng")
	if err != nil {
		return finding{"package cache", "not installed; would keep the packages of one installer for the next", "apt-get install apt-cacher-ng", false}
	}
	return finding{thing: "package cache", state: path + ", for install \"preseed\""}
}

// namespaces tells how a bootstrap gets the owners of files right.
func namespaces() finding {
	if os.Geteuid() == 0 {
		return finding{thing: "user namespaces", state: "not needed: running as root"}
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if _, err := program.Find(name); err != nil {
			return finding{"user namespaces", name + " is not installed; a bootstrap without root needs it", "apt-get install uidmap", true}
		}
	}
	for _, s := range []struct{ name, bad, good string }{
		{"kernel/unprivileged_userns_clone", "0", "1"},             // Debian
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu
		{"user/max_user_namespaces", "0", "10000"},
	} {
		text, err := os.ReadFile("/proc/sys/" + s.name)
		if err == nil && strings.TrimSpace(string(text)) == s.bad {
			cure := fmt.Sprintf("sysctl %s=%s, or bootstrap as root", strings.ReplaceAll(s.name, "/", "."), s.good)
			return finding{"user namespaces", "switched off; a bootstrap without root needs them", cure, true}
		}
	}
	return finding{thing: "user namespaces", state: "there, for bootstraps without root"}
}

func agent() finding {
	p, err := workshop.Agent()
	if err != nil {
		return finding{"agent", "not in this program", "build it with make build", true}
	}
	return finding{thing: "agent", state: survey.Bytes(int64(len(p))) + ", embedded"}
}

func (a *app) memory() finding {
	free, err := machine.HostMemory()
	switch {
	case err != nil:
		return finding{"memory", err.Error(), "make /proc readable", true}
	case free < 1536:
		return finding{"memory", fmt.Sprintf("%d MiB free; a machine takes 1280", free), "end other programs, or give machines less with --memory", false}
	}
	return finding{thing: "memory", state: fmt.Sprintf("%d MiB free", free)}
}

// space tells whether the store can be written, and how much room there is.
func (a *app) space() finding {
	s, err := a.openStore()
	if err != nil {
		return finding{"store", err.Error(), "put it elsewhere with --store", true}
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(s.Dir(), &stat); err != nil {
		return finding{"store", err.Error(), "put it elsewhere with --store", true}
	}
	free := int64(stat.Bavail) * stat.Bsize
	state := fmt.Sprintf("%s, %s free", s.Dir(), survey.Bytes(free))
	switch err := unix.Access(s.Dir(), unix.W_OK); {
	case err != nil:
		return finding{"store", s.Dir() + " cannot be written to", "put it elsewhere with --store", true}
	case free < 5<<30:
		return finding{"store", state, "make room (herdbook store gc), or put it elsewhere with --store", false}
	}
	return finding{thing: "store", state: state}
}

func (a *app) kvm(ctx context.Context) finding {
	dir, err := a.storePath()
	if err != nil {
		dir = os.TempDir()
	}
	v, err := machine.Probe(ctx, dir)
	switch {
	case errors.Is(err, machine.ErrNoQEMU):
		return finding{"accelerator", "cannot be tried without QEMU", "install QEMU", false}
	case err != nil:
		return finding{"accelerator", err.Error(), "mend that", false}
	case v.Accelerator == machine.TCG:
		return finding{"accelerator", "software emulation, several times slower than KVM", v.Reason, false}
	}
	return finding{thing: "accelerator", state: "KVM"}
}
