package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/repo"
	"herdbook/internal/repo/audit"
	"herdbook/internal/repo/publish"
	"herdbook/internal/survey"
)

// header tells of an index how old it is and may become.
func header(x repo.Index) string {
	switch {
	case x.Version == 0 && len(x.Entries) == 0:
		return "nothing is published yet"
	case x.Version == 0:
		return "not written by herdbook: it tells neither its version nor its age"
	}
	text := fmt.Sprintf("version %d, signed at %s", x.Version, x.Signed.Format(time.RFC3339))
	if !x.Expires.IsZero() {
		text += ", fresh until " + x.Expires.Format(time.RFC3339)
	}
	return text
}

// newestRevision is the newest revision of an image, whatever points to it.
func newestRevision(c *cobra.Command, r publish.Repository, s repo.Selector) (repo.Selector, error) {
	x, err := r.Index(c.Context())
	if err != nil {
		return s, err
	}
	list := x.Revisions(s.Image, s.Arch)
	if len(list) == 0 {
		_, err = x.Find(s)
		return s, err
	}
	s.Arch, s.Revision = list[0].Arch, list[0].Revision
	for _, e := range list { // each has a newest one of its own
		if e.Arch != s.Arch {
			return s, fmt.Errorf("%s is there for %s and %s; say which with --arch", s.Image, s.Arch, e.Arch)
		}
	}
	return s, nil
}

func (a *app) repoListCommand(f *repoFlags) *cobra.Command {
	var all, asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List images with their revisions and channels",
		Args:  arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := f.open(a)
			if err != nil {
				return err
			}
			x, err := r.Index(c.Context())
			if err != nil {
				return err
			}
			if isAddress(f.repo) && x.Version == 0 && len(x.Entries) == 0 {
				return fmt.Errorf("%s: there is no repository, or nothing in it", f.repo)
			}
			if asJSON {
				return a.writeJSON(listed(x))
			}
			w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tREVISION\tCHANNELS\tARCH\tSIZE\tFILES\tPUBLISHED\tSYSTEM")
			for _, e := range x.Entries {
				if len(e.Channels) == 0 && e.Image != "" && !all {
					continue
				}
				published := "-"
				if !e.Published.IsZero() {
					published = e.Published.Local().Format(minutes)
				}
				fmt.Fprint(w, visible(fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Of(), e.Revision, cmp.Or(strings.Join(e.Channels, " "), "-"), e.Arch,
					survey.Bytes(e.Size), survey.Bytes(fileBytes(e)), published, e.Name)))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Stdout, header(x))
			return err
		},
	}
	c.Flags().BoolVar(&all, "all", false, "revisions that no channel points to, too")
	c.Flags().BoolVar(&asJSON, "json", false, "all of it as JSON")
	return c
}

// fileBytes are those of all files of a revision.
func fileBytes(e repo.Entry) int64 {
	if len(e.Artefacts) == 0 {
		return e.CompressedSize
	}
	var sum int64
	for _, f := range e.Artefacts {
		sum += f.Size
	}
	return sum
}

// listedIndex is an index as JSON.
type listedIndex struct {
	Version int              `json:"version"`
	Signed  *time.Time       `json:"signed,omitempty"`
	Expires *time.Time       `json:"expires,omitempty"`
	Images  []listedRevision `json:"revisions"`
}

type listedRevision struct {
	Image     string       `json:"image"`
	Revision  int          `json:"revision"`
	Channels  []string     `json:"channels"`
	Arch      string       `json:"arch"`
	Name      string       `json:"name,omitempty"`
	OSInfo    string       `json:"osinfo,omitempty"`
	Size      int64        `json:"size"`
	Published *time.Time   `json:"published,omitempty"`
	Layer     string       `json:"layer,omitempty"`
	Notes     string       `json:"notes,omitempty"`
	Files     []listedFile `json:"files"`
}

type listedFile struct {
	Kind   string `json:"kind,omitempty"`
	File   string `json:"file"`
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	SHA512 string `json:"sha512,omitempty"`
}

// listed is an index for programs.
func listed(x repo.Index) listedIndex {
	given := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	list := listedIndex{Version: x.Version, Signed: given(x.Signed), Expires: given(x.Expires), Images: []listedRevision{}}
	for _, e := range x.Entries {
		r := listedRevision{
			Image: e.Of(), Revision: e.Revision, Channels: append([]string{}, e.Channels...), Arch: e.Arch, Name: e.Name, OSInfo: e.OSInfo,
			Size: e.Size, Published: given(e.Published), Layer: e.Layer, Notes: e.Notes,
		}
		for _, f := range e.Artefacts {
			r.Files = append(r.Files, listedFile(f))
		}
		if len(r.Files) == 0 {
			r.Files = []listedFile{{File: e.File, Size: e.CompressedSize, SHA512: e.Checksum}}
		}
		list.Images = append(list.Images, r)
	}
	return list
}

func (a *app) repoVerifyCommand(f *repoFlags) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Verify every byte, signature, checksum and channel of a repository",
		Long: "Read a repository whole and hold all of it against its index: the signature and age of the index, every file, everything that is\n" +
			"derived from the index for other clients, the channels. What is missing, extra, altered or wrong is named, and the exit status is 1 then.",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			r, err := f.open(a)
			if err != nil {
				return err
			}
			o := audit.Options{Keys: r.Keys, Now: a.Now(), Workers: runtime.NumCPU()}
			if r.Signer != nil {
				o.Keys = r.Signer.Keys()
			}
			report, err := audit.Verify(c.Context(), r.Bucket, o)
			if err != nil {
				return err
			}
			if asJSON {
				report.Findings = append([]audit.Finding{}, report.Findings...)
				err = a.writeJSON(report)
			} else {
				for _, found := range report.Findings {
					fmt.Fprintln(a.Stdout, visible(fmt.Sprintf("%s: %s: %s", found.Kind, found.Name, found.What)))
				}
				if report.Unlisted {
					fmt.Fprintln(a.Stdout, "what is there beside that is not known: this server lists objects for those with its token only")
				}
				_, err = fmt.Fprintf(a.Stdout, "%s, %s read; %s\n", count(report.Objects, "object"), survey.Bytes(report.Bytes), header(report.Index))
			}
			if err == nil && len(report.Findings) > 0 {
				err = fmt.Errorf("verify %s: %s", r.Address, count(len(report.Findings), "finding"))
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "the report as JSON")
	return c
}
