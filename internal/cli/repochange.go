package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/repo"
	"herdbook/internal/survey"
)

const archUsage = "architecture, if the image is there for more than one: x86_64, aarch64 …"

func (a *app) repoPromoteCommand(f *repoFlags) *cobra.Command {
	var arch, to string
	c := &cobra.Command{
		Use:   "promote IMAGE[@CHANNEL|@REVISION] --to CHANNEL",
		Short: "Let a channel point to a revision",
		Long: "Let a channel point to a revision of an image: to that of another channel, as in promote web@testing --to stable, or to one by\n" +
			"its number, as in promote web@5 --to stable. Without either it is the newest revision. Nothing is copied. repo diff tells\n" +
			"beforehand what changes.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := selector(args[0], arch)
			if err != nil {
				return err
			}
			if err := repo.CheckChannel(to); err != nil {
				return usageError{err.Error()}
			}
			r, err := f.open(a)
			if err != nil {
				return err
			}
			if s.Channel == "" && s.Revision == 0 {
				if s, err = newestRevision(c, r, s); err != nil {
					return fmt.Errorf("promote %s to %s in %s: %w", args[0], to, r.Address, err)
				}
			}
			e, err := r.Promote(c.Context(), s, to)
			if err != nil {
				return err
			}
			return a.tellPointer(e, to)
		},
	}
	c.Flags().StringVar(&to, "to", "", "the channel, such as stable")
	c.Flags().StringVar(&arch, "arch", "", archUsage)
	if err := c.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag is declared above
	}
	return c
}

// tellPointer says what a channel points to now.
func (a *app) tellPointer(e repo.Entry, channel string) error {
	_, err := fmt.Fprintf(a.Stdout, "%s@%s is revision %d now%s\n", visible(e.Of()), channel, e.Revision, publishedAt(e))
	return err
}

// publishedAt tells when a revision was published, if anybody knows.
func publishedAt(e repo.Entry) string {
	if e.Published.IsZero() {
		return ""
	}
	return ", published at " + e.Published.Format(time.RFC3339)
}

func (a *app) repoRollbackCommand(f *repoFlags) *cobra.Command {
	var arch string
	c := &cobra.Command{
		Use:   "rollback IMAGE[@CHANNEL]",
		Short: "Let a channel point to the revision that it pointed to before",
		Long: "Let a channel (stable, if none is named) point to the revision that it pointed to before; once more, to the one before that.\n" +
			"The revision that it leaves stays in the repository. To go to a certain one: repo promote IMAGE@REVISION --to CHANNEL.",
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := selector(args[0], arch)
			if err != nil {
				return err
			}
			if s.Revision > 0 {
				return usageError{fmt.Sprintf("rollback goes back one step; for a certain revision: herdbook repo promote %s --to CHANNEL", s)}
			}
			r, err := f.open(a)
			if err != nil {
				return err
			}
			if s.Channel == "" {
				s.Channel = repo.Stable
			}
			e, err := r.Rollback(c.Context(), s)
			if err != nil {
				return err
			}
			return a.tellPointer(e, s.Channel)
		},
	}
	c.Flags().StringVar(&arch, "arch", "", archUsage)
	return c
}

func (a *app) repoPruneCommand(f *repoFlags) *cobra.Command {
	var p repo.Policy
	var age string
	var dryRun bool
	c := &cobra.Command{
		Use:   "prune [--keep N] [--max-age AGE] [--image IMAGE] [--channel CHANNEL]",
		Short: "Give up old revisions, and files that no revision has",
		Long: "Give up revisions that no channel points to: those beyond the newest --keep of each image, those older than --max-age; with\n" +
			"both, only what is both. The newest revision of an image and what a channel points to always stay. Without either, only files go\n" +
			"that no revision has, if they are older than a day.",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if c.Flags().Changed("max-age") {
				if p.MaxAge, err = parseAge(age); err != nil {
					return err
				}
			}
			if p.Keep < 0 || c.Flags().Changed("keep") && p.Keep == 0 {
				return usageError{fmt.Sprintf("--keep=%d: want a positive number; the newest revision always stays", p.Keep)}
			}
			r, err := f.open(a)
			if err != nil {
				return err
			}
			done, err := r.Prune(c.Context(), p, dryRun)
			if err != nil {
				return err
			}
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			for _, e := range done.Revisions {
				fmt.Fprintf(a.Stdout, "%s %s@%d (%s)%s\n", verb, visible(e.Of()), e.Revision, visible(e.Arch), publishedAt(e))
			}
			_, err = fmt.Fprintf(a.Stdout, "%s %s, %s, %s\n", verb, count(len(done.Revisions), "revision"), count(len(done.Files), "file"), survey.Bytes(done.Freed))
			return err
		},
	}
	c.Flags().IntVar(&p.Keep, "keep", 0, "keep so many of the newest revisions of each image")
	c.Flags().StringVar(&age, "max-age", "", "keep what is younger, such as 90d or 12h")
	c.Flags().StringVar(&p.Image, "image", "", "only revisions of this image")
	c.Flags().StringVar(&p.Channel, "channel", "", "only revisions that this channel pointed to")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing, only tell")
	return c
}

func (a *app) repoRenewCommand(f *repoFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Sign the index anew, so that it goes on counting as fresh",
		Long: "Sign the index anew although nothing has changed. An index counts as fresh for as long as valid_for says, since otherwise somebody\n" +
			"between could go on showing an old one; a publish renews it when half of that is over.",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := f.open(a)
			if err != nil {
				return err
			}
			x, err := r.Renew(c.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Stdout, header(x))
			return err
		},
	}
}
