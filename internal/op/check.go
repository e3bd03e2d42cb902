package op

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The names of the kinds.

func (*Packages) Kind() string   { return "packages" }
func (*Run) Kind() string        { return "run" }
func (*File) Kind() string       { return "file" }
func (*Copy) Kind() string       { return "copy" }
func (*Delete) Kind() string     { return "delete" }
func (*User) Kind() string       { return "user" }
func (*Password) Kind() string   { return "password" }
func (*SSHKey) Kind() string     { return "ssh_key" }
func (*Hostname) Kind() string   { return "hostname" }
func (*Timezone) Kind() string   { return "timezone" }
func (*Service) Kind() string    { return "service" }
func (*Sysprep) Kind() string    { return "sysprep" }
func (*Bootloader) Kind() string { return "bootloader" }
func (*Agent) Kind() string      { return "agent" }

// The versions of what they do.

func (*Packages) Version() int   { return 1 }
func (*Run) Version() int        { return 1 }
func (*File) Version() int       { return 1 }
func (*Copy) Version() int       { return 1 }
func (*Delete) Version() int     { return 1 }
func (*User) Version() int       { return 1 }
func (*Password) Version() int   { return 1 }
func (*SSHKey) Version() int     { return 1 }
func (*Hostname) Version() int   { return 2 }
func (*Timezone) Version() int   { return 1 }
func (*Service) Version() int    { return 1 }
func (*Sysprep) Version() int    { return 4 }
func (*Bootloader) Version() int { return 2 }
func (*Agent) Version() int      { return 1 }

var (
	accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	packageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9+._:~=*-]*$`)
	unitName    = regexp.MustCompile(`^[a-zA-Z0-9:_.\\@-]+$`)
	hostLabel   = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	variable    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	keyLine     = regexp.MustCompile(`^(?:[^ #]+ )?(?:ssh-|ecdsa-|sk-)[^ ]+ [A-Za-z0-9+/=]+(?: .*)?$`)
	hashField   = regexp.MustCompile(`^(?:\$[^:\n]+|[*!]+)$`)
)

// Check implements Operation.
func (p *Packages) Check() []Problem {
	var problems []Problem
	if len(p.Install) == 0 && len(p.Remove) == 0 && !p.Update {
		problems = append(problems, Problem{"", "a packages step that does nothing", `say install = ["NAME"], remove = ["NAME"] or update = true`})
	}
	for field, names := range map[string][]string{"install": p.Install, "remove": p.Remove} {
		for _, name := range names {
			if !packageName.MatchString(name) {
				problems = append(problems, Problem{field, fmt.Sprintf("%q is not a package name", name), ""})
			}
		}
	}
	return problems
}

// Check implements Operation.
func (r *Run) Check() []Problem {
	var problems []Problem
	if strings.TrimSpace(r.Script) == "" {
		problems = append(problems, Problem{"script", "the script is empty", ""})
	}
	if strings.ContainsRune(r.Script, 0) {
		problems = append(problems, Problem{"script", "the script holds a NUL byte", "a run step takes text; lay a binary down with copy and run it by its path"})
	}
	for name := range r.Environment {
		if !variable.MatchString(name) {
			problems = append(problems, Problem{"environment", fmt.Sprintf("%q is not the name of an environment variable", name), ""})
		}
	}
	return problems
}

// Check implements Operation.
func (f *File) Check() []Problem {
	problems := append(checkPath("path", f.Path), checkMode("mode", f.Mode)...)
	problems = append(problems, checkOwner("owner", f.Owner)...)
	return append(problems, checkOwner("group", f.Group)...)
}

// Check implements Operation.
func (c *Copy) Check() []Problem {
	var problems []Problem
	if c.Source == "" {
		problems = append(problems, Problem{"source", "the source is empty", ""})
	}
	problems = append(problems, checkPath("destination", c.Destination)...)
	problems = append(problems, checkOwner("owner", c.Owner)...)
	return append(problems, checkOwner("group", c.Group)...)
}

// Check implements Operation.
func (d *Delete) Check() []Problem {
	var problems []Problem
	if len(d.Paths) == 0 {
		problems = append(problems, Problem{"paths", "no paths to delete", ""})
	}
	for _, p := range d.Paths {
		problems = append(problems, checkPath("paths", p)...)
	}
	return problems
}

// Check implements Operation.
func (u *User) Check() []Problem {
	problems := checkAccount("name", u.Name)
	if u.UID < 0 || u.UID > 4294967293 {
		problems = append(problems, Problem{"uid", fmt.Sprintf("%d is not a user number", u.UID), ""})
	}
	problems = append(problems, checkOwner("group", u.Group)...)
	for _, g := range u.Groups {
		problems = append(problems, checkAccount("groups", g)...)
	}
	if u.Shell != "" {
		problems = append(problems, checkPath("shell", u.Shell)...)
	}
	if u.Home != "" {
		problems = append(problems, checkPath("home", u.Home)...)
	}
	return problems
}

// Check implements Operation.
func (p *Password) Check() []Problem {
	problems := checkAccount("user", p.User)
	given := 0
	for _, set := range []bool{!p.Password.IsZero(), p.Hash != "", p.Disabled} {
		if set {
			given++
		}
	}
	if given > 1 || given == 0 && !p.Locked {
		problems = append(problems, Problem{"", "one of password, hash and disabled must be given, or locked", `for example password = env("ROOT_PASSWORD")`})
	}
	if p.Crypto != "" && !slices.Contains(PasswordCryptos, p.Crypto) {
		problems = append(problems, Problem{"crypto", fmt.Sprintf("no way to hash a password %q", p.Crypto), "there are " + strings.Join(PasswordCryptos, ", ")})
	}
	if p.Crypto != "" && p.Password.IsZero() {
		problems = append(problems, Problem{"crypto", "there is no password to hash", ""})
	}
	if strings.ContainsAny(p.Password.Value, "\n\r\x00") {
		problems = append(problems, Problem{"password", "the password holds a line break", "does its file end in one? use trimspace()"})
	}
	if p.Hash != "" && !hashField.MatchString(p.Hash) {
		problems = append(problems, Problem{"hash", "not a crypt(5) hash", "make one with mkpasswd or openssl passwd -6"})
	}
	return problems
}

// Check implements Operation.
func (s *SSHKey) Check() []Problem {
	problems := checkAccount("user", s.User)
	if len(s.Keys) == 0 {
		problems = append(problems, Problem{"keys", "no keys", ""})
	}
	for _, key := range s.Keys {
		if !keyLine.MatchString(strings.TrimSpace(key)) {
			problems = append(problems, Problem{"keys", "not a public key line of authorized_keys", "a private key must never be given here"})
		}
	}
	return problems
}

// Check implements Operation.
func (h *Hostname) Check() []Problem {
	if len(h.Name) > 253 {
		return []Problem{{"name", "a host name has at most 253 characters", ""}}
	}
	for label := range strings.SplitSeq(h.Name, ".") {
		if !hostLabel.MatchString(label) {
			return []Problem{{"name", fmt.Sprintf("%q is not a host name", h.Name), "letters, digits and hyphens, in labels of at most 63 joined by dots"}}
		}
	}
	return nil
}

// Check implements Operation.
func (t *Timezone) Check() []Problem {
	if !zoneName.MatchString(t.Zone) {
		return []Problem{{"zone", fmt.Sprintf("%q is not the name of a time zone", t.Zone), `such as "Europe/Berlin" or "UTC"`}}
	}
	return nil
}

// Check implements Operation.
func (s *Service) Check() []Problem {
	var problems []Problem
	if !unitName.MatchString(s.Name) {
		problems = append(problems, Problem{"name", fmt.Sprintf("%q is not the name of a unit", s.Name), ""})
	}
	if s.Enabled == nil && !s.Masked {
		problems = append(problems, Problem{"", "a service step that does nothing", "say enabled = true, enabled = false or masked = true"})
	}
	if s.Enabled != nil && *s.Enabled && s.Masked {
		problems = append(problems, Problem{"masked", "a unit cannot be enabled and masked", ""})
	}
	return problems
}

// Check implements Operation.
func (*Bootloader) Check() []Problem { return nil }

// Check implements Operation.
func (*Agent) Check() []Problem { return nil }

func checkPath(field, p string) []Problem {
	switch {
	case !path.IsAbs(p):
		return []Problem{{field, fmt.Sprintf("%q is not an absolute path", p), "paths in the guest start with /"}}
	case strings.ContainsRune(p, 0):
		return []Problem{{field, "the path holds a NUL byte", ""}}
	case path.Clean(p) == "/":
		return []Problem{{field, "the path is the guest's root", ""}}
	case slices.Contains(strings.Split(p, "/"), ".."):
		return []Problem{{field, fmt.Sprintf("%q climbs with ..", p), "write the path that is meant"}}
	}
	return nil
}

func checkMode(field, mode string) []Problem {
	if mode == "" {
		return nil
	}
	if n, err := strconv.ParseUint(mode, 8, 32); err != nil || n > 0o7777 {
		return []Problem{{field, fmt.Sprintf("%q is not an octal file mode", mode), `such as "0644"`}}
	}
	return nil
}

func checkAccount(field, name string) []Problem {
	if !accountName.MatchString(name) {
		return []Problem{{field, fmt.Sprintf("%q is not the name of an account", name), ""}}
	}
	return nil
}

func checkOwner(field, owner string) []Problem {
	if owner == "" {
		return nil
	}
	if _, err := strconv.ParseUint(owner, 10, 32); err == nil {
		return nil
	}
	return checkAccount(field, owner)
}
