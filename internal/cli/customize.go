package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"herdbook/internal/build"
	"herdbook/internal/customize"
	"herdbook/internal/definition"
	"herdbook/internal/op"
	"herdbook/internal/wire"
)

func (a *app) customizeCommand() *cobra.Command {
	var f changeFlags
	var trim bool
	options := a.customizeOptions()
	c := &cobra.Command{
		Use:   "customize DISK",
		Short: "Change a disk image in place: files, packages, accounts, scripts",
		Long: "Change a disk image in place: all that is asked for, or nothing if anything fails. The options are those of virt-customize,\n" +
			"and are carried out in the order in which they are given; docs/customize.md tells where they differ.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			result := options.Result()
			if len(result.Operations) == 0 {
				return usageError{"nothing is asked for; herdbook customize --help lists what can be"}
			}
			work, err := customization(result)
			if err != nil {
				return err
			}
			f.network = f.network || needsNetwork(result.Operations)
			work.What, work.Job = "customize", wire.Job{Trim: trim}
			if err := a.change(c.Context(), args[0], f, work); err != nil {
				return err
			}
			return a.tellPasswords(result)
		},
	}
	f.add(a, c)
	c.Flags().BoolVar(&trim, "trim", false, "give the free blocks back at the end")
	addCustomizeFlags(c, options)
	return c
}

// tellPasswords prints the passwords that were made up.
func (a *app) tellPasswords(result customize.Result) error {
	for _, made := range result.Generated {
		if _, err := fmt.Fprintf(a.Stdout, "password of %s: %s\n", made.User, made.Password); err != nil {
			return err
		}
	}
	return nil
}

// customizeOptions are the options with what they need of this machine.
func (a *app) customizeOptions() *customize.Options {
	return &customize.Options{Host: customize.Host{ReadFile: os.ReadFile, PublicKey: a.publicKey, Password: randomPassword}}
}

// addCustomizeFlags offers the options as flags, which keep their order.
func addCustomizeFlags(c *cobra.Command, options *customize.Options) {
	c.Flags().SortFlags = false
	for _, option := range customize.Table() {
		flag := c.Flags().VarPF(options.Flag(option), option.Name, "", option.Help)
		flag.Hidden = option.Refused != "" // it is there to say why
		if option.Argument == "" {
			flag.NoOptDefVal = "true"
		}
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		var wrong *pflag.InvalidValueError
		if errors.As(err, &wrong) {
			if _, ok := wrong.GetFlag().Value.(*customize.Flag); ok {
				return usageError{wrong.Unwrap().Error()} // without the value, which may be a password
			}
		}
		return c.Root().FlagErrorFunc()(c, err)
	})
}

// customization gathers what the operations lay down.
func customization(result customize.Result) (build.Alteration, error) {
	work := build.Alteration{Operations: result.Operations, Inputs: make([][]definition.Input, len(result.Operations))}
	for i, o := range result.Operations {
		source, ok := op.HostSource(o)
		if !ok {
			continue
		}
		inputs, err := definition.Inputs(source)
		if err != nil {
			return work, err
		}
		work.Inputs[i] = inputs
	}
	return work, nil
}

// needsNetwork tells whether packages are to be fetched.
func needsNetwork(operations []op.Operation) bool {
	for _, o := range operations {
		if p, ok := o.(*op.Packages); ok && (len(p.Install) > 0 || p.Update) {
			return true
		}
	}
	return false
}

// publicKey is the newest of the user's own public keys.
func (a *app) publicKey() (string, error) {
	home, _ := a.LookupEnv("HOME")
	names, err := filepath.Glob(filepath.Join(home, ".ssh", "id*.pub"))
	if err != nil || home == "" {
		return "", errors.Join(err, errors.New("HOME is not set: name the key, as in --ssh-inject root:file:KEY.pub"))
	}
	newest, name := int64(-1), ""
	for _, n := range names {
		if stat, err := os.Stat(n); err == nil && stat.ModTime().UnixNano() > newest {
			newest, name = stat.ModTime().UnixNano(), n
		}
	}
	if name == "" {
		return "", fmt.Errorf("there is no public key in %s: make one with ssh-keygen, or name one, as in --ssh-inject root:file:KEY.pub", filepath.Join(home, ".ssh"))
	}
	text, err := os.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}

// randomPassword makes up a password of 26 letters and digits: 128 bits.
func randomPassword() (string, error) { return rand.Text(), nil }
