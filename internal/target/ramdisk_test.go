package target

import (
	"slices"
	"testing"
)

func TestRAMDiskIsChecked(t *testing.T) {
	for _, c := range []struct {
		change func(*RAMDisk)
		field  string // "": nothing is wrong
	}{
		{func(*RAMDisk) {}, ""},
		{func(r *RAMDisk) { r.Layout = "tar" }, "layout"},
		{func(r *RAMDisk) { r.Compression = "lzma" }, "compression"},
		{func(r *RAMDisk) { r.MaxMemory = "1536M" }, ""},
		{func(r *RAMDisk) { r.MaxMemory = "much" }, "max_memory"},
		{func(r *RAMDisk) { r.MaxMemory = "0M" }, "max_memory"},
		{func(r *RAMDisk) { r.URL = "https://[2001:db8::1]:8443/images/" }, ""},
		{func(r *RAMDisk) { r.URL = "ftp://boot.example.org/" }, "url"},
		{func(r *RAMDisk) { r.URL = "http://boot.example.org/a b" }, "url"},
		{func(r *RAMDisk) { r.URL = "http://boot.example.org/${net0/mac}" }, "url"},
		{func(r *RAMDisk) { r.Arguments = []string{"console=ttyS0,115200n8", "systemd.unit=rescue.target"} }, ""},
		{func(r *RAMDisk) { r.Arguments = []string{"quiet", "a || b"} }, "arguments"},
		{func(r *RAMDisk) { r.Arguments = []string{"${hostname}"} }, "arguments"},
		{func(r *RAMDisk) { r.Arguments = []string{""} }, "arguments"},
	} {
		r := NewRAMDisk()
		c.change(r)
		var fields []string
		for _, p := range r.Check() {
			fields = append(fields, p.Field)
		}
		var want []string
		if c.field != "" {
			want = []string{c.field}
		}
		if !slices.Equal(fields, want) {
			t.Errorf("%+v: %v, want %v", *r, fields, want)
		}
	}
	r := &RAMDisk{MaxMemory: "2G"}
	if got := r.Memory(); got != 2<<30 {
		t.Errorf("%d bytes", got)
	}
}
