package publish

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/repo"
)

// Promote lets a channel point to a revision. If it does already, only what a stop
// may have left undone is done.
func (r Repository) Promote(ctx context.Context, from repo.Selector, channel string) (e repo.Entry, err error) {
	err = r.update(ctx, func(x repo.Index) (repo.Index, error) {
		x, e, err = x.Promote(from, channel, r.Now)
		return x, err
	})
	if err != nil {
		return e, fmt.Errorf("promote %s to %s in %s: %w", from, channel, r.Address, err)
	}
	return e, nil
}

// Rollback lets a channel point to the revision that it pointed to before. Which one
// that is, is settled once, however often the change is tried: a step back that was made
// although its answer was lost is not made twice.
func (r Repository) Rollback(ctx context.Context, s repo.Selector) (e repo.Entry, err error) {
	to := repo.Selector{Image: s.Image, Arch: s.Arch, Channel: s.Channel}
	err = r.update(ctx, func(x repo.Index) (repo.Index, error) {
		if present, err := x.Find(to); err == nil && e.Revision > 0 && present.Revision == e.Revision {
			return x, nil
		}
		x, e, err = x.Rollback(s)
		s.Revision = e.Revision
		return x, err
	})
	if err != nil {
		return e, fmt.Errorf("roll back %s in %s: %w", s, r.Address, err)
	}
	return e, nil
}

// Renew signs the index anew, although nothing has changed, so that it goes on
// counting as the newest.
func (r Repository) Renew(ctx context.Context) (x repo.Index, err error) {
	s, err := r.renew(ctx)
	if err == nil {
		err = r.openDoors(ctx, s)
	}
	if err != nil {
		return x, fmt.Errorf("renew %s: %w", r.Address, err)
	}
	return s.index, nil
}

func (r Repository) renew(ctx context.Context) (state, error) {
	if err := r.mayWrite(); err != nil {
		return state{}, err
	}
	s, err := r.load(ctx)
	if err == nil && s.version == "" {
		err = errNoIndex
	}
	if err != nil {
		return s, err
	}
	next, err := r.write(ctx, s, s.index)
	if errors.Is(err, bucket.ErrChanged) { // who was faster has renewed it, too
		return r.load(ctx)
	}
	return next, err
}

// youth is how long a file that no index names is left alone: somebody may be about
// to publish it.
const youth = 24 * time.Hour

// ours are the names that fileName makes: what has another one is somebody else's.
var ours = regexp.MustCompile(`^` + repo.ImageDir + `/[^/]+-[0-9a-f]{12}(\.[a-z0-9]+)+$`)

// Pruned is what was given up.
type Pruned struct {
	Revisions []repo.Entry
	Files     []string
	Freed     int64 // bytes
}

// Prune gives up the revisions that a policy does not keep, and the files that no
// index names any more. A dry run only tells.
func (r Repository) Prune(ctx context.Context, p repo.Policy, dryRun bool) (Pruned, error) {
	done, err := r.prune(ctx, p, dryRun)
	if err != nil {
		return done, fmt.Errorf("prune %s: %w", r.Address, err)
	}
	return done, nil
}

func (r Repository) prune(ctx context.Context, p repo.Policy, dryRun bool) (done Pruned, err error) {
	// The files are listed before the index is read: what comes meanwhile is none of them.
	objects, err := r.Bucket.List(ctx, repo.ImageDir+"/")
	if err != nil {
		return done, err
	}
	s, err := r.load(ctx)
	if err == nil && s.version == "" {
		err = errNoIndex // or all that is there would go
	}
	if err != nil {
		return done, err
	}
	var left repo.Index
	forget := func(x repo.Index) (repo.Index, error) {
		left, done.Revisions, err = x.Prune(p, r.Now)
		return left, err
	}
	if dryRun {
		_, err = forget(s.index)
	} else {
		err = r.update(ctx, forget)
	}
	if err != nil {
		return done, err
	}
	gone := names(done.Revisions)
	needed := names(left.Entries)
	objects = slices.DeleteFunc(objects, func(o bucket.Object) bool {
		return needed[o.Name] || !gone[o.Name] && (r.Now.Sub(o.Modified) < youth || !ours.MatchString(o.Name))
	})
	if !dryRun {
		objects, err = r.remove(ctx, objects)
	}
	for _, o := range objects {
		done.Files, done.Freed = append(done.Files, o.Name), done.Freed+o.Size
	}
	return done, err
}

// remove removes files that no index names, and returns those that it removed: what
// was written since they were listed is about to be published again.
func (r Repository) remove(ctx context.Context, objects []bucket.Object) (removed []bucket.Object, err error) {
	present, err := r.Bucket.List(ctx, repo.ImageDir+"/")
	if err != nil {
		return nil, err
	}
	now := map[string]bucket.Object{}
	for _, o := range present {
		now[o.Name] = o
	}
	for _, o := range objects {
		if again := now[o.Name]; again.Version != o.Version || !again.Modified.Equal(o.Modified) {
			continue
		}
		if err := r.Bucket.Remove(ctx, o.Name); err != nil {
			return removed, err
		}
		removed = append(removed, o)
	}
	s, err := r.load(ctx)
	needed := names(s.index.Entries)
	for _, o := range removed {
		if err == nil && needed[o.Name] {
			err = fmt.Errorf("%s was published again at the same moment, and is lost: publish it once more", o.Name)
		}
	}
	return removed, err
}

// names are those of all files of revisions.
func names(revisions []repo.Entry) map[string]bool {
	files := map[string]bool{}
	for _, e := range revisions {
		for _, name := range e.Files() {
			files[name] = true
		}
	}
	return files
}
