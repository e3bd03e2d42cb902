// Package comparison tells in what two systems differ: files with all that belongs
// to them but their times, packages, units, accounts, and where bytes were won or
// lost. Both are read where they lie; what was found out is a value that is read
// as text or as JSON.
package comparison

import (
	"context"
	"fmt"

	"herdbook/internal/inspection"
	"herdbook/internal/survey"
)

// Comparison is what changed from one system to another. All lists are in order
// and have no more than what differs.
type Comparison struct {
	Packages []Package    `json:"packages"`
	Units    []Difference `json:"units"`
	Users    []Difference `json:"users"`
	Groups   []Difference `json:"groups"`
	Sizes    []Size       `json:"sizes"`
	Files    []Difference `json:"files"`
}

// Change is what happened to one thing.
type Change string

// The changes.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// Difference is one thing that is not as it was.
type Difference struct {
	Change  Change   `json:"change"`
	Name    string   `json:"name"`           // of a file its absolute path
	Kind    string   `json:"kind,omitempty"` // of a file: file, directory, link, device, fifo or socket; what it is now
	Details []Detail `json:"details,omitempty"`
}

// Detail is what of it differs. Of contents, attributes and passwords no values are
// told.
type Detail struct {
	What string `json:"what"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Package is a package of which versions came or went.
type Package struct {
	Change       Change `json:"change"`
	Manager      string `json:"manager"`
	Name         string `json:"name"`
	Architecture string `json:"architecture,omitempty"`
	From         string `json:"from,omitempty"` // version
	To           string `json:"to,omitempty"`   // version
}

// Size is what lies below a directory that does not hold as much as before. See
// survey.DirectorySize for what counts.
type Size struct {
	Dir       string `json:"dir"`
	From      int64  `json:"from"` // bytes
	To        int64  `json:"to"`   // bytes
	FilesFrom int64  `json:"files_from"`
	FilesTo   int64  `json:"files_to"`
}

// Compare compares two systems. Contents are read only of files that could be the
// same and have data; it ends early if ctx does.
func Compare(ctx context.Context, a, b *inspection.System) (*Comparison, error) {
	before, err := survey.Look(a)
	if err != nil {
		return nil, fmt.Errorf("the first system: %w", err)
	}
	after, err := survey.Look(b)
	if err != nil {
		return nil, fmt.Errorf("the second system: %w", err)
	}
	c := &Comparison{
		Packages: Packages(before.Databases, after.Databases),
		Units:    units(before.Units, after.Units),
		Users:    users(before.Users, after.Users),
		Groups:   groups(before.Groups, after.Groups),
		Sizes:    sizes(before.Sizes, after.Sizes),
	}
	if c.Files, err = files(ctx, a.Tree(), b.Tree()); err != nil {
		return nil, fmt.Errorf("compare files: %w", err)
	}
	return c, nil
}

// Same tells whether nothing differs.
func (c *Comparison) Same() bool {
	return len(c.Packages)+len(c.Units)+len(c.Users)+len(c.Groups)+len(c.Sizes)+len(c.Files) == 0
}
