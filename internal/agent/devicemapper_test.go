package agent

import (
	"bytes"
	"encoding/binary"
	"testing"

	"herdbook/internal/mapper"
)

// TestTableRequest reads a request as the kernel does: row by row, each with its
// parameters as a string.
func TestTableRequest(t *testing.T) {
	d := mapper.Device{Name: "vg-root", ReadOnly: true, Table: []mapper.Target{
		{Start: 0, Length: 100, Type: mapper.Linear, Areas: []mapper.Area{{Source: mapper.Source{Partition: 2}, Offset: 2048}}},
		{Start: 100, Length: 7, Type: mapper.Linear, Areas: []mapper.Area{{Source: mapper.Source{Device: "md-1"}, Offset: 1}}},
		{Start: 107, Length: 8, Type: mapper.Linear, Areas: []mapper.Area{{Offset: 123456}}},
	}}
	p := tableRequest("/dev/vda", d)
	ne := binary.NativeEndian
	if ne.Uint32(p) != 4 || int(ne.Uint32(p[dmDataSize:])) != len(p) || ne.Uint32(p[dmTargets:]) != 3 || ne.Uint32(p[dmFlags:]) != dmReadOnly|dmSecure {
		t.Errorf("header % x", p[:48])
	}
	if name, _, _ := bytes.Cut(p[dmName:], []byte{0}); string(name) != d.Name {
		t.Errorf("name %q", name)
	}
	row := p[ne.Uint32(p[dmData:]):]
	for i, want := range []string{"/dev/vda2 2048", "/dev/mapper/md-1 1", "/dev/vda 123456"} {
		parameters, _, ended := bytes.Cut(row[targetSize:], []byte{0})
		kind, _, _ := bytes.Cut(row[targetType:targetType+16], []byte{0})
		next := ne.Uint32(row[targetNext:])
		if string(parameters) != want || !ended || string(kind) != "linear" || next%8 != 0 || int(next) <= targetSize+len(parameters) {
			t.Errorf("row %d: %q %q, next at %d", i, kind, parameters, next)
		}
		if int64(ne.Uint64(row)) != d.Table[i].Start || int64(ne.Uint64(row[targetLength:])) != d.Table[i].Length {
			t.Errorf("row %d: % x", i, row[:16])
		}
		row = row[next:]
	}
	if len(row) != 0 {
		t.Errorf("%d bytes are left", len(row))
	}
}
