package op

// Packages installs, removes and updates packages with the guest's own package
// manager. It needs the network unless only removing.
type Packages struct {
	Install []string `hcl:"install,optional" json:"install,omitempty"` // package names, NAME=VERSION to fix one
	Remove  []string `hcl:"remove,optional" json:"remove,omitempty"`   // purged with their configuration
	Update  bool     `hcl:"update,optional" json:"update,omitempty"`   // upgrade everything first

	// What targets say beside it, whose images are anybody's.
	Missing bool `json:"missing,omitempty"` // only what is not installed is installed; the network is left alone if all is
	// Elsewhere are the names, with spaces between them, by which a manager's
	// distributions have what Install names.
	Elsewhere map[string]string `json:"elsewhere,omitempty"`
}

// Run executes a script by its own shebang, in the guest's root; without one,
// by /bin/sh. A shell script ends at its first failing line.
type Run struct {
	Script      string            `hcl:"script" json:"script"`
	Environment map[string]Secret `hcl:"environment,optional" json:"environment,omitempty"`
}

// File writes one file, whole or not at all. Missing parent directories are
// made with mode 0755.
type File struct {
	Path    string `hcl:"path" json:"path"`
	Content string `hcl:"content" json:"content"`
	Mode    string `hcl:"mode,optional" json:"mode,omitempty"`   // octal, such as "0644" (the default)
	Owner   string `hcl:"owner,optional" json:"owner,omitempty"` // name or number in the guest; default root
	Group   string `hcl:"group,optional" json:"group,omitempty"` // name or number in the guest; default the owner's
	Keep    bool   `hcl:"keep,optional" json:"keep,omitempty"`   // a file that is there keeps mode, owner and label
}

// Copy lays a file or a directory tree of the host into the guest. The bytes
// come on the read-only disk of files, below the directory Payload of its tar.
type Copy struct {
	Source      string `hcl:"source" json:"source"`           // path on the host, relative to the definition
	Destination string `hcl:"destination" json:"destination"` // absolute path in the guest
	Owner       string `hcl:"owner,optional" json:"owner,omitempty"`
	Group       string `hcl:"group,optional" json:"group,omitempty"`
	Name        string `json:"name,omitempty"`    // of a single file whose destination is a directory: its name there
	Payload     string `json:"payload,omitempty"` // set by the build: the tree's name in the tar
}

// Delete removes files and trees; a path may hold the wildcards * ? [ ] { }.
// What is not there is no error.
type Delete struct {
	Paths []string `hcl:"paths" json:"paths"`
}

// User makes an account, or brings an existing one to what is said here.
type User struct {
	Name   string   `hcl:"name" json:"name"`
	UID    int      `hcl:"uid,optional" json:"uid,omitempty"` // 0: the next free one
	Group  string   `hcl:"group,optional" json:"group,omitempty"`
	Groups []string `hcl:"groups,optional" json:"groups,omitempty"` // supplementary, added
	Shell  string   `hcl:"shell,optional" json:"shell,omitempty"`   // default /bin/bash, nologin for system accounts
	Home   string   `hcl:"home,optional" json:"home,omitempty"`     // default /home/NAME
	System bool     `hcl:"system,optional" json:"system,omitempty"`
}

// Password sets, locks or disables an account's password. At most one of
// Password, Hash and Disabled is given; Locked goes with each of them, or alone.
type Password struct {
	User     string `hcl:"user" json:"user"`
	Password Secret `hcl:"password,optional" json:"password,omitzero"`
	Hash     string `hcl:"hash,optional" json:"hash,omitempty"`         // crypt(5) format
	Disabled bool   `hcl:"disabled,optional" json:"disabled,omitempty"` // no password is right
	Locked   bool   `hcl:"locked,optional" json:"locked,omitempty"`     // until it is unlocked; the password stays behind a mark
	Crypto   string `hcl:"crypto,optional" json:"crypto,omitempty"`     // one of PasswordCryptos; default the guest's own choice
}

// PasswordCryptos are the ways to hash a password that can be asked for.
var PasswordCryptos = []string{"md5", "sha256", "sha512", "yescrypt"}

// SSHKey adds public keys to an account's authorized_keys.
type SSHKey struct {
	User string   `hcl:"user" json:"user"`
	Keys []string `hcl:"keys" json:"keys"` // lines of authorized_keys
}

// Hostname sets the static host name and its entry in /etc/hosts.
type Hostname struct {
	Name string `hcl:"name" json:"name"`
}

// Timezone sets the time zone, a name below /usr/share/zoneinfo.
type Timezone struct {
	Zone string `hcl:"zone" json:"zone"`
}

// Service enables, disables or masks a unit; its next start is the clone's boot.
type Service struct {
	Name    string `hcl:"name" json:"name"`
	Enabled *bool  `hcl:"enabled,optional" json:"enabled,omitempty"`
	Masked  bool   `hcl:"masked,optional" json:"masked,omitempty"`
}

// Bootloader installs GRUB from the guest's own packages for BIOS and for UEFI
// (the removable path, no entry in a machine's NVRAM) and writes its menu.
type Bootloader struct{}

// Agent installs the agent itself as a service that starts with the system: for
// the throw-away overlay of a test, or to be gone before anything is done, never for a
// layer.
type Agent struct {
	Mask []string `json:"mask,omitempty"` // units of systemd that must not start in that boot
}
