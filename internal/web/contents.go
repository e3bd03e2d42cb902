package web

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"
)

const (
	// maxContents bounds the memory of a search by packages: four bytes for each
	// package of each image. That of 10,000 small servers fits.
	maxContents = 4 << 20
	maxNames    = 1 << 18                // different names of packages; Debian has a quarter
	patience    = 250 * time.Millisecond // that one search reads manifests which nobody has read
	maxShown    = 3                      // packages that a hit tells of
)

// contents knows which packages are in which images. It reads a manifest once, when
// somebody searches: what is read has its file's name and never changes.
type contents struct {
	reading sync.Mutex // held by the one search that reads; others do with what there is

	mu    sync.Mutex // of what follows
	ids   map[string]uint32
	names []string            // in lower case, by number
	of    map[string][]uint32 // manifest's file → packages
	total int                 // packages of all
}

// read reads manifests that were not read yet, for as long as it may, and returns
// how many are left.
func (c *contents) read(ctx context.Context, source Source, manifests []string) (left int) {
	unread := c.unread(manifests)
	if len(unread) == 0 || !c.reading.TryLock() {
		return len(unread)
	}
	defer c.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i, file := range unread {
		if ctx.Err() != nil {
			return left + len(unread) - i
		}
		m, err := source.Manifest(ctx, file)
		if err != nil || !c.add(file, m.Packages) {
			left++
		}
	}
	return left
}

// unread are those manifests that were not read. What no image has any more is
// given up.
func (c *contents) unread(manifests []string) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(manifests)
	for _, file := range manifests {
		if _, ok := c.of[file]; !ok {
			list = append(list, file)
		}
	}
	return list
}

// forget gives up what no image has any more.
func (c *contents) forget(manifests []string) {
	if c.of == nil || len(c.names) > maxNames/2 && len(c.of) > len(manifests) {
		c.ids, c.names, c.of, c.total = map[string]uint32{}, nil, map[string][]uint32{}, 0
	}
	if len(c.of) <= len(manifests) {
		return
	}
	wanted := map[string]bool{}
	for _, file := range manifests {
		wanted[file] = true
	}
	maps.DeleteFunc(c.of, func(file string, packages []uint32) bool {
		if !wanted[file] {
			c.total -= len(packages)
		}
		return !wanted[file]
	})
}

// add keeps the packages of a manifest, if there is room for them.
func (c *contents) add(file string, packages []Package) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total+len(packages) > maxContents || len(c.names)+len(packages) > maxNames {
		return false
	}
	list := make([]uint32, 0, len(packages))
	for _, p := range packages {
		name := strings.ToLower(clip(p.Name, 200))
		id, ok := c.ids[name]
		if !ok {
			id = uint32(len(c.names))
			c.ids[name] = id
			c.names = append(c.names, name)
		}
		list = append(list, id)
	}
	c.of[file] = list
	c.total += len(list)
	return true
}

// find looks for a word in the names of packages. What it returns tells some of
// those that an image has, or none.
func (c *contents) find(word string) func(file string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	like := make([]bool, len(c.names))
	some := false
	for id, name := range c.names {
		like[id] = strings.Contains(name, word)
		some = some || like[id]
	}
	return func(file string) (found []string) {
		if !some {
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, id := range c.of[file] {
			if int(id) < len(like) && like[id] && len(found) < maxShown {
				found = append(found, c.names[id])
			}
		}
		return found
	}
}
