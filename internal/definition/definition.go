// Package definition reads a user's HCL files into validated images, or reports
// every problem in them at once, each with its place in the source and a hint.
// It reads the files that the definition names; it starts nothing, asks nobody,
// and knows the environment only through its options.
package definition

import (
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/target"
)

// Definition is what a user's files say, validated.
type Definition struct {
	Path         string // of the file or directory that it was read from, absolute
	Dir          string // the directory that relative paths count from
	Repositories []Repository
	Images       []Image // parents before their children
}

// Image is one image.
type Image struct {
	Name      string
	From      string // name of the parent image; "" if it starts by itself
	Bootstrap *Bootstrap
	Install   *Install
	Import    *Import
	Template  *Template
	Disk      Disk
	Steps     []Step // sysprep, if asked for, is the last one
	Tests     []Test
	Publish   []Publish
	Targets   []Target
	Position  string // file:line
}

// Disk is the geometry of an image that starts by itself, or what a template grows to.
type Disk struct {
	Size int64 // bytes; 0 for that of what the image starts from
}

// Bootstrap makes an image of packages, without an installer.
type Bootstrap struct {
	Suite         string
	Mirror        string
	Components    []string
	Variant       string
	Include       []string
	Keyring       string // absolute path; "" for the host's
	KeyringDigest digest.Digest
	Architecture  string
	Refresh       string // never, daily or always
}

// Medium is something that an image starts from: a tree, an ISO image, a kernel,
// a disk image.
type Medium struct {
	URL      string          // http, https or file
	Checksum digest.Checksum // that the definition gives; "" if it gives none
}

// Install makes an image with the distribution's own installer. The fields with
// tags are read as they stand.
type Install struct {
	Kind           string    // preseed, kickstart, autoinstall or autoyast
	Location       Medium    // a tree, or an ISO image with its checksum; empty if Kernel and Initrd are given
	Kernel, Initrd Medium    // with Location: only the checksums may be set
	Answers        op.Secret `hcl:"answers"`
	Arguments      []string  `hcl:"arguments,optional"` // of the kernel, behind those of herdbook
	Files          []InitrdFile
	MirrorProxy    string  `hcl:"mirror_proxy,optional"`
	Keyring        string  `hcl:"keyring,optional"`  // absolute path; "" for the host's
	Refresh        string  `hcl:"refresh,optional"`  // never, daily or always
	Firmware       string  `hcl:"firmware,optional"` // bios or uefi
	Memory         int     // MiB
	Network        Network // without Proxy and Forward
	Timeout        time.Duration
	Position       string // file:line
}

// InitrdFile is a file, or a directory with all that is in it, laid into an
// installer's initrd.
type InitrdFile struct {
	Path   string // in the initrd, absolute
	Inputs []Input
}

// Import makes an image of a disk image.
type Import struct {
	Medium
	Format string // raw, qcow2, vmdk, vhdx or vdi; "" to find out
}

// Step is one operation on the image.
type Step struct {
	Kind      string
	Name      string
	Operation op.Operation
	Network   *Network      // nil: none
	Firmware  string        // bios or uefi; "" for work on the quiet disk
	Reboot    bool          // of boot: a boot of its own, not that of the boot step before it
	Timeout   time.Duration // 0: the default
	Position  string        // file:line
	Files     []Input       // what a copy step reads
}

// Input is one file, directory or link that a step reads from the host.
type Input struct {
	Name   string // in the tree that is copied; "." is its top
	Path   string // on the host
	Mode   string // such as -rwxr-xr-x
	Size   int64  // of a regular file
	Link   string // target of a symbolic link
	Digest digest.Digest
}

// Publish puts the image into a repository.
type Publish struct {
	Repository string
	Name       string // in the repository
	Channel    string // that points to it then
}

// Target is a place where the image is delivered to.
type Target struct {
	target.Target
	Image    string // that is delivered, and for which the files are named
	Output   string // directory, absolute
	Steps    []Step // what the place needs on the image
	Position string // file:line
}

// Place is the name of the image that the target needs on top of its own; "" if it needs
// none.
func (t Target) Place() string {
	if len(t.Steps) == 0 {
		return ""
	}
	return t.Image + "/" + t.Name()
}

// Places are the names of the images that the targets need on top of this one.
func (i Image) Places() []string {
	var names []string
	for _, t := range i.Targets {
		if place := t.Place(); place != "" {
			names = append(names, place)
		}
	}
	return names
}

// Name is that of the target among those of its image.
func (t Target) Name() string { return target.Name(t.Target) }
