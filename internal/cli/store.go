package cli

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/store"
	"herdbook/internal/survey"
)

func (a *app) storeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Look after the layers on this machine",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.storeListCommand(), a.storeGCCommand())
	return c
}

func (a *app) storeListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the layers, the newest first",
		Args:  arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			s, err := a.openStore()
			if err != nil {
				return err
			}
			layers, err := s.List()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "LAYER\tPARENT\tSIZE\tPARTS\tMADE\tTOOK\tTESTS\tIMAGE\tSTEP")
			total := int64(0)
			for _, l := range layers {
				parent := "-"
				if l.Parent != "" {
					parent = l.Parent.Short()
				}
				tests, err := s.Tests(l.Digest)
				if err != nil {
					return err
				}
				size, parts, err := partsOf(s, l)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Digest.Short(), parent, survey.Bytes(l.Size), parts,
					l.Created.Local().Format(minutes), seconds(l.Elapsed), tally(tests), l.Image, l.Step)
				total += l.Size + size
			}
			if err := w.Flush(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Stdout, "%s, %s in %s\n", count(len(layers), "layer"), survey.Bytes(total), s.Dir())
			return err
		},
	}
}

// partsOf is how large the files beside a layer are that artefacts have in common.
func partsOf(s *store.Store, l store.Layer) (size int64, shown string, err error) {
	size, err = s.PartsSize(l.Digest)
	if size == 0 {
		return size, "-", err
	}
	return size, survey.Bytes(size), err
}

// minutes is how a time is shown to people.
const minutes = "2006-01-02 15:04"

// tally counts the tests of a layer, those that failed by themselves.
func tally(tests []store.Tested) string {
	passed, failed := 0, 0
	for _, t := range tests {
		if t.Passed {
			passed++
		} else {
			failed++
		}
	}
	switch {
	case failed > 0:
		return fmt.Sprintf("%d passed, %d failed", passed, failed)
	case passed > 0:
		return fmt.Sprintf("%d passed", passed)
	}
	return "-"
}

func (a *app) storeGCCommand() *cobra.Command {
	var age, most string
	var policy store.Policy
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove layers that no definition reaches any more",
		Long: "Remove layers and fetched media that were not used for --max-age, then the longest unused layers until the rest fits\n" +
			"in --max-size, and then what targets have in common beside layers that stay, which they make anew. That counts layers only:\n" +
			"media and packages that are kept come on top of it, and only --max-age removes them. What a definition that is still there\n" +
			"reached in its last build always stays.",
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			var err error
			if policy.MaxAge, err = parseAge(age); err != nil {
				return err
			}
			if policy.MaxSize, err = parseSize("max-size", most); err != nil {
				return err
			}
			s, err := a.openStore()
			if err != nil {
				return err
			}
			report, err := s.Collect(a.Now(), policy)
			if err != nil {
				return err
			}
			verb := "removed"
			if policy.DryRun {
				verb = "would remove"
			}
			for _, l := range report.Layers {
				fmt.Fprintf(a.Stdout, "%s %s  %s  %s %s\n", verb, l.Digest.Short(), survey.Bytes(l.Size), l.Image, l.Step)
			}
			for _, t := range report.Parts {
				fmt.Fprintf(a.Stdout, "%s parts of %s  %s  %s %s\n", verb, t.Layer.Digest.Short(), survey.Bytes(t.Bytes), t.Layer.Image, t.Layer.Step)
			}
			for _, name := range report.Work {
				fmt.Fprintf(a.Stdout, "%s %s\n", verb, name)
			}
			_, err = fmt.Fprintf(a.Stdout, "%s %s, %s; %s stay\n", verb, count(len(report.Layers), "layer"), survey.Bytes(report.Freed), survey.Bytes(report.Left))
			return err
		},
	}
	c.Flags().StringVar(&age, "max-age", "30d", "remove what was not used for so long, such as 30d or 12h; 0 for no limit")
	c.Flags().StringVar(&most, "max-size", "0", "remove the longest unused layers until no more of them is left, such as 20G; 0 for no limit")
	c.Flags().BoolVar(&policy.DryRun, "dry-run", false, "only tell what would be removed")
	return c
}

var (
	dayText  = regexp.MustCompile(`^([0-9]{1,5})d$`)
	sizeText = regexp.MustCompile(`^([0-9]{1,19})([KMGT]?)(?:iB)?$`)
)

func parseAge(text string) (time.Duration, error) {
	if m := dayText.FindStringSubmatch(text); m != nil {
		days, err := strconv.Atoi(m[1])
		return time.Duration(days) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, usageError{fmt.Sprintf("--max-age=%s: want a time such as 30d or 12h", text)}
	}
	return d, nil
}

// parseSize reads a size of a flag, in bytes.
func parseSize(flag, text string) (int64, error) {
	m := sizeText.FindStringSubmatch(text)
	if m == nil {
		return 0, usageError{fmt.Sprintf("--%s=%s: want a size such as 20G", flag, text)}
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[m[2]]
	if err != nil || n > math.MaxInt64>>shift {
		return 0, usageError{fmt.Sprintf("--%s=%s: there is no such disk", flag, text)}
	}
	return n << shift, nil
}
