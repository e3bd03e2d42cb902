package repo

import (
	"fmt"
	"slices"
)

// Check tells what in an index contradicts itself: two revisions of one number, a
// channel that points to two, names that do not follow from the channels, a file
// that is told in two ways. What is not of herdbook is left alone.
func (x Index) Check() []error {
	var errs []error
	fault := func(e Entry, format string, values ...any) {
		errs = append(errs, fmt.Errorf("%s@%d (%s): %s", e.Of(), e.Revision, e.Arch, fmt.Sprintf(format, values...)))
	}
	seen := map[string]bool{}
	once := func(e Entry, what string) bool {
		key := e.Image + " " + e.Arch + " " + what
		before := seen[key]
		seen[key] = true
		return !before
	}
	for _, e := range x.Entries {
		if e.Image == "" {
			continue
		}
		if !once(e, fmt.Sprint(e.Revision)) {
			fault(e, "there are two revisions of this number")
		}
		for _, channel := range e.Channels {
			if !once(e, channel) {
				fault(e, "the channel %s points to another revision, too", channel)
			}
			if !e.Was(channel) {
				fault(e, "it does not tell when the channel %s came to it", channel)
			}
		}
		if e.Published.After(x.Signed) {
			fault(e, "it was published after the index was signed")
		}
		e.checkArtefacts(func(format string, values ...any) { fault(e, format, values...) })
	}
	settled, err := x.settle()
	if err != nil {
		return append(errs, err)
	}
	for i, e := range x.Entries {
		if want := settled.Entries[i]; e.ID != want.ID || e.Hidden != want.Hidden || !slices.Equal(e.Aliases, want.Aliases) {
			errs = append(errs, fmt.Errorf("[%s]: by its channels it would be [%s]", e.ID, want.ID))
		}
	}
	return errs
}

// checkArtefacts holds what virt-builder reads of the file against what herdbook does.
func (e Entry) checkArtefacts(fault func(string, ...any)) {
	kinds := map[string]bool{}
	isOne := false
	for _, a := range e.Artefacts {
		if kinds[a.Kind] {
			fault("there are two files of the kind %s", a.Kind)
		}
		kinds[a.Kind] = true
		if a.File == e.File {
			isOne = true
			if a.SHA512 != e.Checksum || a.Size != e.CompressedSize {
				fault("checksum and size of %s are told in two ways", a.File)
			}
		}
	}
	if len(e.Artefacts) > 0 && !isOne {
		fault("its file %s is none of its artefacts", e.File)
	}
}
