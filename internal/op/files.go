package op

// AppendLine puts a line at the end of a file, which is made if it is not there.
// A file without an end to its last line gets one first, in the file's own style
// (LF, CR LF or CR).
type AppendLine struct {
	Path string `hcl:"path" json:"path"`
	Line string `hcl:"line" json:"line"` // without its end; empty for a blank line
}

// Chmod sets the mode of files and directories; links are followed inside the guest.
type Chmod struct {
	Paths []string `hcl:"paths" json:"paths"`
	Mode  string   `hcl:"mode" json:"mode"` // octal, always
}

// Chown sets the owner of files and directories; of a link itself, not of what
// it means.
type Chown struct {
	Paths []string `hcl:"paths" json:"paths"`
	Owner string   `hcl:"owner,optional" json:"owner,omitempty"` // name or number in the guest; default unchanged
	Group string   `hcl:"group,optional" json:"group,omitempty"` // name or number in the guest; default unchanged
}

// Duplicate copies a file or a tree within the guest, with all that a file has:
// owner, mode, times, extended attributes, hard links among the copied, holes.
// If the destination is a directory, the copy lies in it by its old name.
type Duplicate struct {
	Source      string `hcl:"source" json:"source"`
	Destination string `hcl:"destination" json:"destination"`
}

// Move renames a file or a tree within the guest, to another of its file systems
// too. If the destination is a directory, it lies there by its old name.
type Move struct {
	Source      string `hcl:"source" json:"source"`
	Destination string `hcl:"destination" json:"destination"`
}

// Link makes symbolic links; a file or a link of that name is replaced. If the
// name is that of a directory, the link lies in it by the name of its target.
type Link struct {
	Target string   `hcl:"target" json:"target"` // as it is to stand in the link
	Paths  []string `hcl:"paths" json:"paths"`
}

// Mkdir makes directories with their parents; one that is there is no error.
type Mkdir struct {
	Paths []string `hcl:"paths" json:"paths"`
	Mode  string   `hcl:"mode,optional" json:"mode,omitempty"` // octal, of those that are made; default "0755"
}

// Touch sets the times of files to now; one that is not there is made, empty.
type Touch struct {
	Paths []string `hcl:"paths" json:"paths"`
}

// Truncate empties files, which must be there and keep all but their content.
type Truncate struct {
	Paths     []string `hcl:"paths" json:"paths"`
	Recursive bool     `hcl:"recursive,optional" json:"recursive,omitempty"` // of a directory, all regular files below it
}

// Scrub overwrites files before it deletes them, so that their content cannot be
// found on the disk that it is done on. Layers below keep theirs.
type Scrub struct {
	Paths []string `hcl:"paths" json:"paths"`
}

// TarIn lays the content of a tar archive of the host into a directory, which
// must be there. The bytes come on the read-only disk of files, as a file named
// Payload in its tar.
type TarIn struct {
	Source      string `hcl:"source" json:"source"`           // path on the host, relative to the definition; plain, gzip or bzip2
	Destination string `hcl:"destination" json:"destination"` // absolute path in the guest
	Payload     string `json:"payload,omitempty"`             // set by the build: the archive's name in the tar
}

// Edit changes a file by an expression of Perl, which is carried out for every
// line of it, in $_ and with its number in $lineno. Plain substitutions s/…/…/,
// one or more with semicolons between them, need no Perl anywhere; all else is
// carried out by the guest's own.
type Edit struct {
	Path       string `hcl:"path" json:"path"`
	Expression string `hcl:"expression" json:"expression"`
}

// HostSource is the path on the host of what an operation lays into the guest, or
// needs there while it is carried out; ok is false for an operation that needs nothing
// of the host.
func HostSource(o Operation) (source string, ok bool) {
	switch o := o.(type) {
	case *Copy:
		return o.Source, true
	case *TarIn:
		return o.Source, true
	case *Puppet:
		return o.Modules, o.Modules != ""
	case *Ansible:
		return o.Tree(), true
	}
	return "", false
}

// StaysOnHost tells whether the HostSource of an operation is for the host alone.
func StaysOnHost(o Operation) bool {
	_, ok := o.(*Ansible)
	return ok
}

// WithPayload returns an operation that has a HostSource with the name that its
// files have in the tar; any other as it is.
func WithPayload(o Operation, name string) Operation {
	switch o := o.(type) {
	case *Copy:
		laid := *o
		laid.Payload = name
		return &laid
	case *TarIn:
		laid := *o
		laid.Payload = name
		return &laid
	case *Puppet:
		laid := *o
		laid.Payload = name
		return &laid
	}
	return o
}
