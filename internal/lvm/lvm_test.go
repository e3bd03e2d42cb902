package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

func open(t testing.TB, file string) (*PhysicalVolume, error) {
	t.Helper()
	image, err := os.ReadFile(file)
	peer.Must(t, err)
	return Open(bytes.NewReader(image), int64(len(image)))
}

// TestAgainstLVM holds what is read against what lvs and pvs print.
func TestAgainstLVM(t *testing.T) {
	l := peer.NewLVM(t, 64<<20, 96<<20)
	l.Run("pvcreate", l.Loops[0])
	l.Run("pvcreate", "--dataalignment", "4m", "--labelsector", "3", l.Loops[1])
	l.Run("vgcreate", "-s", "1m", "a-group", l.Loops[0], l.Loops[1])
	l.Create("-L", "12m", "-n", "root", "a-group")
	l.Create("-L", "8m", "-n", "swap-1", "a-group", l.Loops[1])
	l.Create("-L", "20m", "-i", "2", "-I", "64k", "-n", "striped", "a-group")
	l.Run("lvextend", "-L", "40m", "a-group/root")
	l.Run("lvchange", "-pr", "a-group/swap-1")

	names := map[string]string{}
	var want, got []string
	starts := map[string]int64{}
	for _, row := range l.Table("pvs", "pv_name,pv_uuid,pe_start") {
		names[row[0]] = row[1]
		start, err := strconv.ParseInt(row[2], 10, 64)
		peer.Must(t, err)
		starts[row[0]] = start
	}
	for _, row := range l.Table("lvs", "lv_name,lv_uuid,lv_size,lv_attr,seg_size,stripe_size,devices", "--segments") {
		row[3] = row[3][1:2]
		line := strings.Join(row[:6], " ")
		for device := range strings.SplitSeq(row[6], ",") {
			loop, rest, _ := strings.Cut(device, "(")
			extent, err := strconv.ParseInt(strings.TrimSuffix(rest, ")"), 10, 64)
			peer.Must(t, err)
			line += fmt.Sprintf(" %s+%d", names[loop], starts[loop]+extent<<20)
		}
		want = append(want, line)
	}
	for i := range l.Files {
		pv, err := open(t, l.Files[i])
		if err != nil {
			t.Fatal(err)
		}
		if pv.ID != names[l.Loops[i]] || pv.Group == nil || pv.Group.Name != "a-group" || pv.Group.Sequence < 5 || len(pv.Group.Members) != 2 {
			t.Errorf("%s: %+v", l.Loops[i], pv)
		}
		got = nil
		for _, v := range pv.Group.Volumes {
			permissions := map[bool]string{false: "w", true: "r"}[v.ReadOnly]
			for _, s := range v.Segments {
				line := fmt.Sprint(v.Name, " ", v.ID, " ", v.Size, " ", permissions, " ", s.Size, " ", s.Stripe)
				for _, a := range s.Areas {
					line += fmt.Sprintf(" %s+%d", a.Member, a.Offset)
				}
				got = append(got, line)
			}
			if !v.Visible || v.Other != "" {
				t.Errorf("%s: %+v", v.Name, v)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: other volumes than LVM's (-want +got):\n%s", l.Loops[i], diff)
		}
	}
}

// TestMetadataThatWrapAround has LVM write often enough to go round in its ring.
func TestMetadataThatWrapAround(t *testing.T) {
	l := peer.NewLVM(t, 16<<20, 16<<20)
	l.Run("pvcreate", "--metadatasize", "32k", "--dataalignment", "4k", l.Loops[0])
	l.Run("pvcreate", "--metadatacopies", "0", l.Loops[1])
	l.Run("vgcreate", "vg", l.Loops[0], l.Loops[1])
	wrapped := false
	for i := range 40 {
		l.Run("vgchange", "--addtag", fmt.Sprint(strings.Repeat("tag", 20), i), "vg")
		image, err := os.ReadFile(l.Files[0])
		peer.Must(t, err)
		h := image[4096:]
		le := binary.LittleEndian
		wrapped = wrapped || le.Uint64(h[40:])+le.Uint64(h[48:]) > le.Uint64(h[32:])
		pv, err := open(t, l.Files[0])
		if err != nil || pv.Group == nil || pv.Group.Sequence != int64(i+2) {
			t.Fatalf("after %d changes: %+v, %v", i+1, pv, err)
		}
	}
	if !wrapped {
		t.Error("the metadata never went around the end of their area")
	}
	// One that keeps no metadata still says who it is.
	if pv, err := open(t, l.Files[1]); err != nil || pv.Group != nil || len(pv.ID) != 38 {
		t.Errorf("without metadata: %+v, %v", pv, err)
	}
}

func TestDamageIsSeen(t *testing.T) {
	l := peer.NewLVM(t, 16<<20)
	l.Run("pvcreate", l.Loops[0])
	l.Run("vgcreate", "vg", l.Loops[0])
	l.Create("-L", "4m", "-n", "root", "vg")
	whole, err := os.ReadFile(l.Files[0])
	peer.Must(t, err)
	at := bytes.LastIndex(whole[:1<<20], []byte("seqno"))
	for what, damage := range map[string]func(p []byte){
		"label":    func(p []byte) { p[512+40]++ },
		"header":   func(p []byte) { p[4096+44]++ },
		"metadata": func(p []byte) { p[at]++ },
		"magic":    func(p []byte) { p[4096+5]++ },
	} {
		p := bytes.Clone(whole)
		damage(p)
		if _, err := Open(bytes.NewReader(p), int64(len(p))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("damaged %s: %v", what, err)
		}
	}
	if _, err := Open(bytes.NewReader(whole[:1<<19]), 1<<19); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := Open(bytes.NewReader(make([]byte, 4096)), 4096); !errors.Is(err, ErrNotLVM) {
		t.Errorf("zeros: %v", err)
	}
}

// group is metadata as LVM writes them, with %s for further volumes.
const group = `# a comment
contents = "Text Format Volume Group"
version = 1
description = "a \"quoted\" \\ word"
vg {
	id = "jm0iAv-AgXe-J5zA-8Yf0-ewZY-3NcN-TItJsv"
	seqno = 5
	status = ["RESIZEABLE", "READ", "WRITE"]
	flags = []
	extent_size = 8192		# 4 Megabytes
	physical_volumes {
		pv0 { id = "MOlNBS-ZCX7-23eA-Tfkd-d1oD-lz7t-yhq3l8"
			status = ["ALLOCATABLE"]
			flags = ["MISSING"]
			pe_start = 2048
			pe_count = 15 }
	}
	logical_volumes {
		root { id = "ng5vuQ-TfPr-o0Q7-dH14-I7w4-T347-dyB1tG"
			status = ["READ", "WRITE", "VISIBLE"]
			segment_count = 1
			segment1 { start_extent = 0
				extent_count = 3
				type = "striped"
				stripe_count = 1
				stripes = [ "pv0", 0 ] } }
		%s
	}
}
`

func volume(name, segment string) string {
	return name + ` { id = "BwpOIE-Mz3K-rHiG-9Jeh-OgEg-XPUO-5EwMqY"
		status = ["READ", "WRITE", "VISIBLE"]
		segment_count = 1
		segment1 { start_extent = 0
			extent_count = 2
			` + segment + ` } }`
}

func TestOtherKindsOfVolume(t *testing.T) {
	plain := `type = "striped" stripe_count = 1 stripes = ["pv0", 3]`
	for want, text := range map[string]string{
		"root -, other thin":                         volume("other", `type = "thin" thin_pool = "pool"`),
		"root -, other raid1":                        volume("other", `type = "raid1" raids = ["a", "b"]`),
		"root -, other -":                            volume("other", plain),
		"root -, other striped over logical volumes": volume("other", `type = "striped" stripe_count = 1 stripes = ["root", 0]`),
		"root origin of a snapshot, s snapshot, snapshot0 snapshot": volume("s", plain) + volume("snapshot0",
			`type = "snapshot" origin = "root" cow_store = "s"`),
	} {
		g, err := parseGroup(fmt.Appendf(nil, group, text))
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		var got []string
		for _, v := range g.Volumes {
			got = append(got, v.Name+" "+map[bool]string{true: "-", false: v.Other}[v.Other == ""])
			if (len(v.Segments) > 0) != (v.Other == "") {
				t.Errorf("%s: %d segments", v.Name, len(v.Segments))
			}
		}
		if strings.Join(got, ", ") != want || !g.Members[0].Missing {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestBadMetadata(t *testing.T) {
	for what, text := range map[string]string{
		"no end":            "vg {",
		"a brace too many":  "vg { } }",
		"a list":            "a = [1, 2",
		"a string":          `a = "b`,
		"a value":           "a = b",
		"twice":             "a = 1 a = 2",
		"two groups":        "a { } b { }",
		"nesting":           strings.Repeat("a { ", 1000),
		"name":              strings.Replace(group, "\nvg {", "\n../vg {", 1),
		"identifier":        strings.Replace(group, "jm0iAv", "jm0i/v", 1),
		"extent size":       strings.Replace(group, "8192", "-1", 1),
		"extents":           strings.Replace(group, "extent_count = 3", "extent_count = 9223372036854775807", 1),
		"outside":           strings.Replace(group, `"pv0", 0`, `"pv0", 13`, 1),
		"negative":          strings.Replace(group, `"pv0", 0`, `"pv0", -1`, 1),
		"unknown":           strings.Replace(group, `"pv0", 0`, `"pv9", 0`, 1),
		"segments":          strings.Replace(group, "segment_count = 1", "segment_count = 999999999", 1),
		"a gap":             strings.Replace(group, "start_extent = 0", "start_extent = 1", 1),
		"physical volume":   strings.Replace(group, "pe_start = 2048", "pe_start = 9223372036854775807", 1),
		"stripe count":      strings.Replace(group, "stripe_count = 1", "stripe_count = 0", 1),
		"size of a stripe":  strings.Replace(group, `stripe_count = 1`, `stripe_size = 0 stripe_count = 2`, 1),
		"nothing whatever":  "",
		"volume of a value": strings.Replace(group, "%s", "other = 1", 1),
	} {
		if _, err := parseGroup([]byte(strings.Replace(text, "%s", "", 1))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzGroup(f *testing.F) {
	f.Add(fmt.Appendf(nil, group, ""))
	f.Add(fmt.Appendf(nil, group, volume("s", `type = "snapshot" origin = "root" cow_store = "s"`)))
	f.Add([]byte("snapshots { logical_volumes { a = 1 } }"))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := parseGroup(text)
		if err != nil {
			return
		}
		for _, v := range g.Volumes {
			size := int64(0)
			for _, s := range v.Segments {
				if size += s.Size; s.Size <= 0 || len(s.Areas) == 0 {
					t.Errorf("a segment %+v", s)
				}
			}
			if v.Other == "" && size != v.Size {
				t.Errorf("segments of %d bytes in a volume of %d", size, v.Size)
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	image := make([]byte, 8192)
	text := fmt.Appendf(nil, group, "")
	le := binary.LittleEndian
	copy(image[512:], "LABELONE\x01\x00\x00\x00\x00\x00\x00\x00....\x20\x00\x00\x00LVM2 001MOlNBSZCX723eATfkdd1oDlz7tyhq3l8")
	le.PutUint64(image[512+72:], 7168)
	le.PutUint64(image[512+104:], 4096)
	le.PutUint64(image[512+112:], 3072)
	h := image[4096:]
	copy(h[4:], magic)
	le.PutUint32(h[20:], 1)
	le.PutUint64(h[24:], 4096)
	le.PutUint64(h[32:], 3072)
	le.PutUint64(h[40:], 2560) // wraps around
	le.PutUint64(h[48:], uint64(len(text)))
	copy(h[2560:3072], text)
	copy(h[512:], text[512:])
	le.PutUint32(h[56:], sum(text))
	seal := func(image []byte) {
		if len(image) >= 4608 {
			le.PutUint32(image[4096:], sum(image[4100:4608]))
			le.PutUint32(image[528:], sum(image[532:1024]))
		}
	}
	seal(image)
	if pv, err := Open(bytes.NewReader(image), int64(len(image))); err != nil || pv.Group.Name != "vg" {
		f.Fatal(err)
	}
	f.Add(image)
	f.Fuzz(func(t *testing.T, image []byte) {
		seal(image) // or a changed byte is never seen behind a checksum
		_, _ = Open(bytes.NewReader(image), int64(len(image)))
	})
}
