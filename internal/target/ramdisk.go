package target

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"herdbook/internal/op"
)

// RAMDisk is what a machine boots from memory: a kernel, an initrd and a root, which are
// loaded over a network or from any boot medium.
type RAMDisk struct {
	Layout      string   `hcl:"layout,optional" json:"layout"`           // squashfs, or initrd: all of the root is unpacked
	Compression string   `hcl:"compression,optional" json:"compression"` // zstd or xz
	URL         string   `hcl:"url,optional" json:"url"`                 // where the files will be; then the initrd of a squashfs fetches it
	MaxMemory   string   `hcl:"max_memory,optional" json:"max_memory"`   // of the machines that it is for
	UKI         bool     `hcl:"uki,optional" json:"uki"`                 // one EFI program besides
	Arguments   []string `hcl:"arguments,optional" json:"arguments"`     // of the kernel
}

// NewRAMDisk is one with its defaults.
func NewRAMDisk() *RAMDisk {
	return &RAMDisk{Layout: "squashfs", Compression: "zstd", Arguments: []string{"console=tty0", "console=ttyS0,115200"}}
}

// Kind implements Target.
func (*RAMDisk) Kind() string { return "ramdisk" }

// Version implements Target.
func (*RAMDisk) Version() int { return 2 }

// Variant implements Target.
func (r *RAMDisk) Variant() string { return "" }

// Adjustments implements Target: what only a disk needs is left out of what is written.
func (*RAMDisk) Adjustments() []Adjustment { return nil }

var (
	memorySize = regexp.MustCompile(`^([0-9]{1,6})([MG])(?:iB)?$`)
	// bootWord is an argument that every boot loader passes on as it is.
	bootWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:,/=@%+-]*$`)
	// loadable is a path of a URL in which no boot loader finds anything special.
	loadable = regexp.MustCompile(`^[A-Za-z0-9._:/\[\]-]*$`)
)

// Memory is MaxMemory in bytes; 0 for no limit.
func (r *RAMDisk) Memory() int64 {
	m := memorySize.FindStringSubmatch(r.MaxMemory)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // six digits at most
	return n << map[string]int{"M": 20, "G": 30}[m[2]]
}

// Check implements Target.
func (r *RAMDisk) Check() []op.Problem {
	var problems []op.Problem
	add := func(field, message, hint string) {
		problems = append(problems, op.Problem{Field: field, Message: message, Hint: hint})
	}
	if r.Layout != "squashfs" && r.Layout != "initrd" {
		add("layout", fmt.Sprintf("there is no %q", r.Layout), "say squashfs or initrd")
	}
	if r.Compression != "zstd" && r.Compression != "xz" {
		add("compression", fmt.Sprintf("there is no %q", r.Compression), "say zstd or xz")
	}
	if r.MaxMemory != "" && r.Memory() == 0 {
		add("max_memory", fmt.Sprintf("%q is not a size", r.MaxMemory), `write it as "2G" or "768M"`)
	}
	if u, err := url.Parse(r.URL); r.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !loadable.MatchString(r.URL)) {
		add("url", fmt.Sprintf("%q is not the address of a directory that boot loaders take", r.URL), `write it as "http://boot.example.org/images"`)
	}
	if i := slices.IndexFunc(r.Arguments, func(a string) bool { return !bootWord.MatchString(a) }); i >= 0 {
		add("arguments", fmt.Sprintf("%q is not a word that every boot loader passes on as it is", r.Arguments[i]), "use letters, digits and ._:,/=@%+-")
	}
	return problems
}
