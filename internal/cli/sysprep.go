package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"herdbook/internal/build"
	"herdbook/internal/clones"
	"herdbook/internal/customize"
	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/wire"
)

// sysprepOrder is what sysprep was asked for.
type sysprepOrder struct {
	changeFlags
	op.Sysprep
	scripts []string // paths
	options *customize.Options
	trim    bool
}

func (a *app) sysprepCommand() *cobra.Command {
	o := sysprepOrder{options: a.customizeOptions()}
	var listOperations, verify bool
	var rules clones.Rules
	c := &cobra.Command{
		Use:   "sysprep DISK",
		Short: "Make a disk image fit to be cloned, in place",
		Long: "Remove from a disk image what names one machine, in place: all of it, or nothing if anything fails.\n" +
			"The operations and how they are chosen are those of virt-sysprep; docs/sysprep.md tells where they differ. The options of\n" +
			"customize may be given, too: they are carried out behind all operations.",
		Args: func(c *cobra.Command, args []string) error {
			if listOperations {
				return arguments(cobra.NoArgs)(c, args)
			}
			return arguments(cobra.ExactArgs(1))(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case listOperations:
				return a.listSysprepOperations()
			case verify:
				return a.verifyClones(c.Context(), args[0], o.changeFlags, rules)
			}
			return a.sysprep(c.Context(), args[0], o)
		},
	}
	o.add(a, c)
	flags := c.Flags()
	flags.BoolVar(&listOperations, "list-operations", false, "list the operations: name, * for those that are done by default, heading")
	flags.StringSliceVar(&o.Operations, "operations", nil, "what is done, from the left: NAME, -NAME, defaults, -defaults, all, -all")
	flags.StringSliceVar(&o.Enable, "enable", nil, "do exactly these operations")
	flags.StringSliceVar(&o.RemoveUserAccounts, "remove-user-accounts", nil, "the accounts that user-account removes (default: all of people)")
	flags.StringSliceVar(&o.KeepUserAccounts, "keep-user-accounts", nil, "accounts that user-account leaves")
	flags.StringArrayVar(&o.scripts, "script", nil, "a script of this machine to be run in the guest")
	flags.StringVar(&o.MachineID, "machine-id", "", "uninitialized: the clone's first boot is systemd's first boot")
	flags.BoolVar(&o.trim, "trim", true, "give the free blocks back, so that nothing of what was deleted is left")
	flags.BoolVar(&verify, "verify", false, "change nothing: start two clones of the image as it is, and compare what names them")
	flags.StringSliceVar(&rules.Allow, "allow", nil, "what clones may share, for --verify")
	flags.StringSliceVar(&rules.Require, "require", nil, "what clones must not share, though they often do, for --verify")
	flags.StringVar((*string)(&rules.Firmware), "firmware", "bios", "firmware of the clones: bios or uefi, for --verify")
	addCustomizeFlags(c, o.options)
	return c
}

// sysprep does it, and behind all operations what customize's options ask for: a key
// that is laid down then stays, as it does with virt-sysprep.
func (a *app) sysprep(ctx context.Context, path string, o sysprepOrder) error {
	for _, name := range o.scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read script: %w", err)
		}
		o.Scripts = append(o.Scripts, string(text))
	}
	if len(o.Scripts) > 0 && len(o.Operations) == 0 && len(o.Enable) == 0 {
		o.Operations = []string{"defaults", "script"}
	}
	if err := wrong(&o.Sysprep); err != nil {
		return err
	}
	result := o.options.Result()
	if len(result.Operations) > 0 && !o.Does("customize") {
		return usageError{"options of customize are given, but the operation customize is off"}
	}
	result.Operations = append([]op.Operation{&o.Sysprep}, result.Operations...)
	work, err := customization(result)
	if err != nil {
		return err
	}
	o.network = o.network || needsNetwork(result.Operations)
	work.What, work.Job = "sysprep", wire.Job{Trim: o.trim}
	if err := a.change(ctx, path, o.changeFlags, work); err != nil {
		return err
	}
	return a.tellPasswords(result)
}

// verifyClones starts two clones of an image and fails for what they share.
func (a *app) verifyClones(ctx context.Context, path string, f changeFlags, rules clones.Rules) error {
	if err := errors.Join(knownFirmware(rules.Firmware), enoughMemory(f.memory)); err != nil {
		return err
	}
	for flag, names := range map[string][]string{"allow": rules.Allow, "require": rules.Require} {
		for _, name := range names {
			if !slices.Contains(identity.Names(), name) {
				return usageError{fmt.Sprintf("--%s: nothing that is compared is called %q; there are %s", flag, name, strings.Join(identity.Names(), ", "))}
			}
		}
	}
	piece, err := f.find(path)
	if err != nil {
		return err
	}
	keys, err := f.readKeys()
	if err != nil {
		return err
	}
	return a.onOverlay(ctx, piece, f, func(b *build.Builder, overlay, scratch string) (bool, error) {
		return false, b.Clone(ctx, build.Alteration{
			Disk: overlay, Scratch: scratch, Name: filepath.Base(path), What: "verify", Keys: keys, Timeout: f.timeout,
		}, rules)
	})
}

// listSysprepOperations prints the table as virt-sysprep does: by name.
func (a *app) listSysprepOperations() error {
	list := slices.Clone(op.SysprepOperations)
	slices.SortFunc(list, func(a, b op.SysprepOperation) int { return strings.Compare(a.Name, b.Name) })
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 1, ' ', 0)
	for _, o := range list {
		mark := " "
		if o.Default {
			mark = "*"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", o.Name, mark, o.Heading)
	}
	return w.Flush()
}

// wrong makes a usageError of what is wrong with an operation's arguments.
func wrong(o op.Operation) error {
	problems := o.Check()
	if len(problems) == 0 {
		return nil
	}
	var lines []string
	for _, p := range problems {
		line := p.Message
		if p.Field != "" {
			line = "--" + strings.ReplaceAll(p.Field, "_", "-") + ": " + line
		}
		if p.Hint != "" {
			line += "; " + p.Hint
		}
		lines = append(lines, line)
	}
	return usageError{strings.Join(lines, "\n")}
}
