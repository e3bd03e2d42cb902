package md

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Array is what the members of one mirror hold.
type Array struct {
	Size int64 // bytes
	// InSync are the members that hold the same, by their index. What is written must
	// be written to all of them.
	InSync []int
}

// Assemble puts together all members that were found of one array. It refuses an
// array that is not a mirror, and one whose members may differ: herdbook writes
// without raising anybody's count of events, and what differs would stay so unseen.
func Assemble(members []*Member) (Array, error) {
	newest := slices.MaxFunc(members, func(a, b *Member) int { return cmp.Compare(a.Events, b.Events) })
	if newest.Level != 1 {
		return Array{}, fmt.Errorf("it is %s, of which herdbook reads only raid1", newest.LevelName())
	}
	a := Array{Size: newest.Size}
	seen := make([]bool, newest.Devices)
	for i, m := range members {
		switch {
		case m.Events+1 == newest.Events && m.Role >= 0:
			return Array{}, errors.New("its members may differ by one write; start the machine once, so that it puts them right")
		case m.Events != newest.Events || m.Role < 0:
			continue // it was left behind, or is a spare
		case m.problem != "":
			return Array{}, fmt.Errorf("%s; start the machine once, so that it puts that right", m.problem)
		case m.Size != newest.Size || m.Devices != newest.Devices || m.Level != newest.Level || !slices.Equal(m.active, newest.active):
			return Array{}, corrupt("members of one age that contradict one another")
		case seen[m.Role]:
			return Array{}, corrupt("two members in place %d", m.Role)
		}
		seen[m.Role] = true
		a.InSync = append(a.InSync, i)
	}
	for role, active := range newest.active {
		if active && !seen[role] {
			return Array{}, fmt.Errorf("its member in place %d is not on this image: what is written without it would make the two differ", role)
		}
	}
	if len(a.InSync) == 0 || a.Size <= 0 {
		return Array{}, errors.New("none of its members is on this image")
	}
	if newest.bitmap && len(a.InSync) < newest.Devices {
		return Array{}, errors.New("it has lost a member and keeps a bitmap for it, which herdbook does not write; remove the bitmap with mdadm --grow --bitmap=none")
	}
	return a, nil
}

// LevelName is what mdadm calls the level.
func (m *Member) LevelName() string {
	switch {
	case m.Level >= 0:
		return fmt.Sprint("raid", m.Level)
	case m.Level == -1:
		return "linear"
	}
	return fmt.Sprintf("of level %d", m.Level)
}

// Paths are the names of the array's device, below /dev.
func (m *Member) Paths() []string {
	if m.Name == "" || strings.Contains(m.Name, "/") {
		return nil
	}
	paths := []string{"md/" + m.Name}
	if strings.Trim(m.Name, "0123456789") == "" {
		paths = append(paths, "md"+m.Name)
	}
	return paths
}
