package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

const maxLinks = 40 // symbolic links followed on one path, as the kernel's

// resolve finds the inode of a path.
func (f *FS) resolve(name string, follow bool) (Inode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	root, err := f.driver.Inode(f.driver.Root())
	if err != nil {
		return nil, err
	}
	if !root.Stat().FileMode().IsDir() {
		return nil, fmt.Errorf("%w: the root is no directory", ErrCorrupt)
	}
	if name == "." {
		return root, nil
	}
	r := resolver{f: f, stack: []Inode{root}}
	return r.walk(strings.Split(name, "/"), follow)
}

// resolver walks a path; its stack holds the directories from the root down, so
// that .. in a link's target never climbs above it.
type resolver struct {
	f     *FS
	stack []Inode
	links int
}

func (r *resolver) walk(parts []string, follow bool) (Inode, error) {
	for i := 0; i < len(parts); i++ {
		part, last := parts[i], i == len(parts)-1
		top := r.stack[len(r.stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(r.stack) > 1 {
				r.stack = r.stack[:len(r.stack)-1]
			}
			continue
		}
		if !top.Stat().FileMode().IsDir() {
			return nil, fmt.Errorf("%w: %q stands below what is no directory", fs.ErrNotExist, part)
		}
		number, err := top.Lookup(part)
		if err != nil {
			return nil, err
		}
		n, err := r.f.driver.Inode(number)
		if err != nil {
			return nil, err
		}
		if n.Stat().FileMode()&fs.ModeSymlink == 0 || last && !follow {
			r.stack = append(r.stack, n)
			continue
		}
		target, err := r.link(n)
		if err != nil {
			return nil, err
		}
		parts, i = append(target, parts[i+1:]...), -1
	}
	return r.stack[len(r.stack)-1], nil
}

func (r *resolver) link(n Inode) ([]string, error) {
	if r.links++; r.links > maxLinks {
		return nil, errors.New("too many symbolic links")
	}
	target, err := n.Link()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(target, "/") {
		r.stack = r.stack[:1]
	}
	return strings.Split(target, "/"), nil
}
