package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"herdbook/internal/comparison"
	"herdbook/internal/disk"
	"herdbook/internal/inspection"
	"herdbook/internal/repo"
	"herdbook/internal/store"
)

func (a *app) repoDiffCommand(f *repoFlags) *cobra.Command {
	var arch string
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff IMAGE[@CHANNEL|@REVISION] [IMAGE[@CHANNEL|@REVISION]]",
		Short: "Tell in what two revisions differ: packages, units, accounts, sizes, files",
		Long: "Tell in what two revisions differ, in the words of herdbook diff. With one name it is what a promotion of that to stable would\n" +
			"change: repo diff web@testing. The exit status is 0 if nothing differs and 1 if something does.",
		Args: arguments(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			var pair []repo.Selector
			for _, text := range args {
				s, err := selector(text, arch)
				if err != nil {
					return err
				}
				pair = append(pair, s)
			}
			if len(pair) == 1 {
				if s := pair[0]; s.Channel == "" && s.Revision == 0 {
					return usageError{fmt.Sprintf("%s is what stable points to: name what would be promoted, such as %s@testing or %s@2", s, s, s)}
				}
				pair = []repo.Selector{{Image: pair[0].Image, Arch: arch, Channel: repo.Stable}, pair[0]}
			}
			s, done, err := a.useStore(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			changes, err := a.compareRevisions(c.Context(), s, f, pair)
			if err != nil {
				return err
			}
			return a.tellChanges(changes, asJSON)
		},
	}
	c.Flags().StringVar(&arch, "arch", "", archUsage)
	c.Flags().BoolVar(&asJSON, "json", false, "all of it as JSON")
	return c
}

// compareRevisions brings the disks of two revisions here and compares them.
func (a *app) compareRevisions(ctx context.Context, s *store.Store, f *repoFlags, pair []repo.Selector) (_ *comparison.Comparison, err error) {
	from, err := f.source(a)
	if err != nil {
		return nil, err
	}
	var systems []*inspection.System
	for _, one := range pair {
		_, kept, err := a.get(ctx, s, one, pullFlags{sourceFlags: from})
		if err != nil {
			return nil, err
		}
		image, err := disk.Open(kept.Path, kept.Format)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, image.Close()) }()
		system, err := inspection.Disk(image, image.Size())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one, err)
		}
		systems = append(systems, system)
	}
	return comparison.Compare(ctx, systems[0], systems[1])
}

// source is the repository of the flags, as what is pulled is read.
func (f *repoFlags) source(a *app) (sourceFlags, error) {
	name := f.repo
	if name == "" {
		def, err := a.parse()
		if err != nil {
			return sourceFlags{}, err
		}
		r, err := f.choose(def)
		if err != nil {
			return sourceFlags{}, err
		}
		name = r.Name
	}
	s := sourceFlags{repos: []string{name}, unsigned: f.unsigned, credentials: a.ownCredentials()}
	if key := cmp.Or(f.key, f.signingKey); key != "" { // the secret key tells the public one
		s.keys = []string{key}
	}
	return s, nil
}
