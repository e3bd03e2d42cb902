package volume

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"herdbook/internal/lvm"
	"herdbook/internal/mapper"
	"herdbook/internal/md"
)

// lookForRAID notes a member of an array.
func (f *finder) lookForRAID(c candidate) (bool, error) {
	m, err := md.Open(c.ReaderAt, c.Size)
	if errors.Is(err, md.ErrNotMember) {
		return false, nil
	}
	if err != nil || c.depth >= maxDepth {
		return true, err
	}
	i := slices.IndexFunc(f.arrays, func(a *array) bool { return a.members[0].UUID == m.UUID })
	if i < 0 {
		i, f.arrays = len(f.arrays), append(f.arrays, &array{})
	}
	a := f.arrays[i]
	if a.done {
		return true, fmt.Errorf("it belongs to RAID array %s, and lies within it", m.UUID)
	}
	a.members, a.on = append(a.members, m), append(a.on, c)
	return true, nil
}

// assembleArrays makes volumes of the arrays whose members are all there; at last,
// of the others, too, with what is wrong with them.
func (f *finder) assembleArrays(last bool) {
	for _, a := range f.arrays {
		if a.done {
			continue
		}
		m := a.members[0]
		whole, err := md.Assemble(a.members)
		if err != nil && !last {
			continue
		}
		a.done = true
		v := Volume{Kind: RAID, Name: "RAID array " + m.UUID, UUID: m.UUID, Size: whole.Size, Paths: m.Paths(), Err: err}
		if paths := m.Paths(); len(paths) > 0 {
			v.Name = "RAID array /dev/" + paths[len(paths)-1]
		}
		d := mapper.Device{Name: "md-" + m.UUID}
		target := mapper.Target{Length: whole.Size / sector, Type: mapper.Mirror}
		depth := 0
		for _, i := range whole.InSync {
			target.Areas = append(target.Areas, mapper.Area{Source: a.on[i].Source, Offset: a.members[i].Offset / sector})
			depth = max(depth, a.on[i].depth)
		}
		if len(target.Areas) == 1 {
			target.Type = mapper.Linear
		}
		d.Table = []mapper.Target{target}
		f.add(v, d, depth+1)
	}
}

// group is a volume group of which physical volumes have been found.
type group struct {
	*lvm.Group // the newest description
	on         map[string]candidate
	done       bool
	err        error // why it is not whole
}

// lookForLVM notes a physical volume.
func (f *finder) lookForLVM(c candidate) (bool, error) {
	pv, err := lvm.Open(c.ReaderAt, c.Size)
	if errors.Is(err, lvm.ErrNotLVM) {
		return false, nil
	}
	if err != nil || c.depth >= maxDepth {
		return true, err
	}
	for _, g := range f.groups {
		if other, ok := g.on[pv.ID]; ok && g.done {
			return true, fmt.Errorf("it is physical volume %s, as is %s", pv.ID, other.Name)
		}
	}
	f.members = append(f.members, physical{pv.ID, c})
	if pv.Group == nil {
		return true, nil
	}
	i := slices.IndexFunc(f.groups, func(g *group) bool { return g.ID == pv.Group.ID })
	if i < 0 {
		i, f.groups = len(f.groups), append(f.groups, &group{Group: pv.Group})
	}
	if g := f.groups[i]; pv.Group.Sequence > g.Sequence && !g.done {
		g.Group = pv.Group
	}
	return true, nil
}

// physical is a physical volume that was found.
type physical struct {
	id string
	candidate
}

// find finds the volumes of a group's members; what is missing or there twice is an error.
func (f *finder) find(g *group) error {
	g.on = map[string]candidate{}
	var missing []string
	for _, m := range g.Members {
		for _, p := range f.members {
			if p.id != m.ID {
				continue
			}
			if other, twice := g.on[m.ID]; twice {
				return fmt.Errorf("%s and %s of volume group %s are both physical volume %s; remove one of the two", other.Name, p.Name, g.Name, m.ID)
			}
			g.on[m.ID] = p.candidate
		}
		if _, ok := g.on[m.ID]; !ok || m.Missing {
			missing = append(missing, m.ID)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("volume group %s lacks physical volume %s, which is not on this image", g.Name, strings.Join(missing, ", "))
	}
	return nil
}

// assembleGroups makes volumes of the groups whose members are all there; at last,
// of the others, too.
func (f *finder) assembleGroups(last bool) {
	for _, g := range f.groups {
		if g.done {
			continue
		}
		err := f.find(g)
		if err != nil && !last {
			continue
		}
		g.done, g.err = true, err
		for _, other := range f.groups {
			if other != g && other.done && other.Name == g.Name {
				err = fmt.Errorf("two volume groups have the name %s; rename one with vgrename", g.Name)
			}
		}
		for _, lv := range g.Volumes {
			if lv.Visible || lv.Other == "" {
				f.addLogical(g, lv, err)
			}
		}
	}
}

// listPhysical lists the physical volumes, whether they belong to a group or not. What they
// say themselves may be nothing: the group's newest description is what counts.
func (f *finder) listPhysical() {
	for _, p := range f.members {
		listed := Physical{Source: p.Source, ID: p.id}
		for _, g := range f.groups {
			if slices.ContainsFunc(g.Members, func(m lvm.Member) bool { return m.ID == p.id }) {
				listed.GroupID, listed.Err = g.ID, g.err
			}
		}
		f.Physical = append(f.Physical, listed)
	}
}

// addLogical makes a volume of a logical one. One that lies on what there is can be
// had, even if others of its group cannot.
func (f *finder) addLogical(g *group, lv lvm.LogicalVolume, incomplete error) {
	name := strings.ReplaceAll(g.Name, "-", "--") + "-" + strings.ReplaceAll(lv.Name, "-", "--")
	v := Volume{Kind: Logical, Name: "logical volume " + g.Name + "/" + lv.Name, UUID: lv.ID, Size: lv.Size,
		Paths: []string{g.Name + "/" + lv.Name, "mapper/" + name}}
	d := mapper.Device{Name: name, UUID: "LVM-" + strings.ReplaceAll(g.ID+lv.ID, "-", ""), ReadOnly: lv.ReadOnly}
	switch {
	case incomplete != nil:
		v.Err = incomplete
	case lv.Other != "":
		v.Err = fmt.Errorf("it is of type %s, of which herdbook knows only linear and striped", lv.Other)
	case len(name) > 127:
		v.Err = errors.New("its name is too long for the kernel")
	case lv.Size == 0:
		v.Err = errors.New("it is empty")
	}
	at, depth := int64(0), 0
	for _, s := range lv.Segments {
		t := mapper.Target{Start: at / sector, Length: s.Size / sector, Type: mapper.Linear, Chunk: s.Stripe / sector}
		if s.Stripe > 0 {
			t.Type = mapper.Striped
		}
		for _, area := range s.Areas {
			on := g.on[area.Member]
			if v.Err == nil && area.Offset+s.Size/int64(len(s.Areas)) > on.Size {
				v.Err = fmt.Errorf("it ends behind the end of %s; the image was cut short", on.Name)
			}
			t.Areas, depth = append(t.Areas, mapper.Area{Source: on.Source, Offset: area.Offset / sector}), max(depth, on.depth)
		}
		d.Table, at = append(d.Table, t), at+s.Size
	}
	f.add(v, d, depth+1)
}
