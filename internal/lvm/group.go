package lvm

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Group is a volume group as one physical volume describes it.
type Group struct {
	Name     string
	ID       string
	Sequence int64 // raised by every change: the highest is true
	Members  []Member
	Volumes  []LogicalVolume // in the order of the text
}

// Member is a physical volume that belongs to a group.
type Member struct {
	ID      string
	Missing bool // LVM noted that it had gone
	start   int64
	extents int64
	name    string // in the text
}

// LogicalVolume is a volume of a group.
type LogicalVolume struct {
	Name     string
	ID       string
	Size     int64 // bytes
	Visible  bool  // not a part of another volume
	ReadOnly bool
	Segments []Segment // they follow one another without a gap
	// Other names what the volume is made of when that is not linear or striped:
	// thin, raid1, cache … Such a volume has no Segments.
	Other string
}

// Segment is a run of a logical volume: of one area, or of several that take
// turns.
type Segment struct {
	Size   int64 // bytes
	Areas  []Area
	Stripe int64 // bytes that an area has before it is the next one's turn
}

// Area is a run of a physical volume.
type Area struct {
	Member string // its ID
	Offset int64  // bytes from the beginning of the physical volume
}

const sectorLimit = 1 << 53 // sectors of an address that fits an int64 in bytes

// name is what LVM allows for groups and volumes. A dot alone or two are
// directories.
var name = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]{0,126}$`)

func validName(s string) bool { return name.MatchString(s) && s != "." && s != ".." }

var identifier = regexp.MustCompile(`^[a-zA-Z0-9]{6}(-[a-zA-Z0-9]{4}){5}-[a-zA-Z0-9]{6}$`)

// parseGroup reads the text of a metadata area. The group is the only section in it.
func parseGroup(text []byte) (*Group, error) {
	top, err := parseText(string(text))
	if err != nil {
		return nil, err
	}
	g := &Group{}
	var s *section
	for _, name := range top.names {
		if sub, ok := top.sub(name); ok {
			if s != nil {
				return nil, corrupt("two volume groups in one text")
			}
			g.Name, s = name, sub
		}
	}
	if s == nil || !validName(g.Name) {
		return nil, corrupt("no volume group in the metadata")
	}
	if g.ID, err = s.id("volume group " + g.Name); err != nil {
		return nil, err
	}
	g.Sequence, _ = s.number("seqno")
	extent, ok := s.number("extent_size")
	if !ok || extent < 1 || extent > 1<<33 {
		return nil, corrupt("volume group %s has extents of %d sectors", g.Name, extent)
	}
	if members, ok := s.sub("physical_volumes"); ok {
		for _, name := range members.names {
			m, err := members.member(name, extent)
			if err != nil {
				return nil, err
			}
			g.Members = append(g.Members, m)
		}
	}
	if volumes, ok := s.sub("logical_volumes"); ok {
		for _, name := range volumes.names {
			v, err := g.volume(volumes, name, extent)
			if err != nil {
				return nil, fmt.Errorf("logical volume %s/%s: %w", g.Name, name, err)
			}
			g.Volumes = append(g.Volumes, v)
		}
		g.noteSnapshots(volumes)
	}
	return g, nil
}

// noteSnapshots marks the two ends of every snapshot, which look like plain
// volumes: one holds only differences, the other must not be written to alone.
func (g *Group) noteSnapshots(volumes *section) {
	for _, hidden := range volumes.names {
		s, _ := volumes.sub(hidden)
		segment, ok := s.sub("segment1")
		if !ok || segment.values["type"] != "snapshot" {
			continue
		}
		for key, what := range map[string]string{"cow_store": "snapshot", "merging_store": "snapshot", "origin": "origin of a snapshot"} {
			of, _ := segment.text(key)
			if i := slices.IndexFunc(g.Volumes, func(v LogicalVolume) bool { return v.Name == of }); i >= 0 {
				g.Volumes[i].Segments, g.Volumes[i].Other = nil, what
			}
		}
	}
}

func (s *section) id(of string) (string, error) {
	id, _ := s.text("id")
	if !identifier.MatchString(id) {
		return "", corrupt("%s has the identifier %q", of, id)
	}
	return id, nil
}

func (s *section) member(name string, extent int64) (Member, error) {
	p, ok := s.sub(name)
	if !ok {
		return Member{}, corrupt("%s is no physical volume", name)
	}
	id, err := p.id("physical volume " + name)
	if err != nil {
		return Member{}, err
	}
	start, ok1 := p.number("pe_start")
	count, ok2 := p.number("pe_count")
	if !ok1 || !ok2 || start < 0 || start > sectorLimit/2 || count < 0 || count > sectorLimit/2/extent {
		return Member{}, corrupt("physical volume %s has %d extents from sector %d", name, count, start)
	}
	missing := slices.Contains(p.flags("flags"), "MISSING") || slices.Contains(p.flags("status"), "MISSING")
	return Member{ID: id, Missing: missing, start: start, extents: count, name: name}, nil
}

func (g *Group) volume(volumes *section, name string, extent int64) (LogicalVolume, error) {
	s, ok := volumes.sub(name)
	if !ok || !validName(name) {
		return LogicalVolume{}, corrupt("no logical volume")
	}
	v := LogicalVolume{Name: name}
	var err error
	if v.ID, err = s.id("it"); err != nil {
		return v, err
	}
	status := s.flags("status")
	v.Visible, v.ReadOnly = slices.Contains(status, "VISIBLE"), !slices.Contains(status, "WRITE")
	count, _ := s.number("segment_count")
	if count < 0 || count > int64(len(s.names)) {
		return v, corrupt("it has %d segments", count)
	}
	next := int64(0)
	for i := range count {
		sub, ok := s.sub(fmt.Sprintf("segment%d", i+1))
		if !ok {
			return v, corrupt("it has no segment %d of %d", i+1, count)
		}
		first, ok1 := sub.number("start_extent")
		extents, ok2 := sub.number("extent_count")
		if !ok1 || !ok2 || first != next || extents < 1 || extents > sectorLimit/extent-next {
			return v, corrupt("segment %d has %d extents from extent %d, not from %d", i+1, extents, first, next)
		}
		next += extents
		if other := sub.other(volumes); other != "" {
			v.Other = other
			continue
		}
		segment, err := g.segment(sub, extents, extent)
		if err != nil {
			return v, fmt.Errorf("segment %d: %w", i+1, err)
		}
		v.Segments = append(v.Segments, segment)
	}
	v.Size = next * extent * sector
	if slices.Contains(status, "PVMOVE") || slices.Contains(status, "LOCKED") {
		v.Other = "pvmove"
	}
	if v.Other != "" {
		v.Segments = nil
	}
	return v, nil
}

// other names the type of a segment that is neither linear nor striped over
// physical volumes.
func (s *section) other(volumes *section) string {
	kind, _ := s.text("type")
	if kind, _, _ = strings.Cut(kind, "+"); kind != "striped" {
		return cmp.Or(kind, "nothing")
	}
	stripes, _ := s.values["stripes"].([]any)
	for _, on := range stripes {
		if name, ok := on.(string); ok && slices.Contains(volumes.names, name) {
			return "striped over logical volumes"
		}
	}
	return ""
}

// segment reads a striped segment; one of a single stripe is linear.
func (g *Group) segment(s *section, extents, extent int64) (Segment, error) {
	list, _ := s.values["stripes"].([]any)
	count, _ := s.number("stripe_count")
	if count < 1 || count > 128 || int64(len(list)) != 2*count {
		return Segment{}, corrupt("%d stripes, %d areas", count, len(list)/2)
	}
	segment := Segment{Size: extents * extent * sector}
	if count > 1 {
		stripe, _ := s.number("stripe_size")
		if stripe < 1 || stripe > extent || extent%stripe != 0 || extents%count != 0 {
			return Segment{}, corrupt("%d stripes of %d sectors in %d extents", count, stripe, extents)
		}
		segment.Stripe = stripe * sector
	}
	for ; len(list) > 0; list = list[2:] {
		member, ok1 := list[0].(string)
		first, ok2 := list[1].(int64)
		i := slices.IndexFunc(g.Members, func(m Member) bool { return m.name == member })
		if !ok1 || !ok2 || i < 0 {
			return Segment{}, corrupt("it lies on %q, which is no physical volume of the group", member)
		}
		m := g.Members[i]
		if first < 0 || first > m.extents-extents/count {
			return Segment{}, corrupt("%d extents from extent %d of %d on %s", extents/count, first, m.extents, member)
		}
		segment.Areas = append(segment.Areas, Area{m.ID, (m.start + first*extent) * sector})
	}
	return segment, nil
}
