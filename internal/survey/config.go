package survey

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxText bounds a file of configuration, in bytes.
const maxText = 4 << 20

// FstabLine is a line of etc/fstab as it stands there, with its escapes.
type FstabLine struct {
	Spec    string `json:"spec"`
	Dir     string `json:"dir"`
	Type    string `json:"type"`
	Options string `json:"options,omitempty"`
}

// User is an account of etc/passwd.
type User struct {
	Name     string `json:"name"`
	UID      string `json:"uid"`
	GID      string `json:"gid"`
	Comment  string `json:"comment,omitempty"`
	Home     string `json:"home"`
	Shell    string `json:"shell"`
	Login    bool   `json:"login"`    // the shell is one to work in
	Password string `json:"password"` // set, locked or empty; never what it is

	secret string // the field of etc/shadow; only ever compared
}

// SamePassword tells whether two accounts have the same password field.
func (u User) SamePassword(o User) bool { return u.secret == o.secret }

// Group is a group of etc/group.
type Group struct {
	Name    string   `json:"name"`
	GID     string   `json:"gid"`
	Members []string `json:"members,omitempty"`
}

// Unit is a unit of systemd's that the administrator has enabled or masked.
type Unit struct {
	Name  string `json:"name"`
	State string `json:"state"` // enabled or masked
}

// readConfiguration reads what the files of etc say.
func (s *System) readConfiguration(tree fs.FS) error {
	for _, err := range []error{s.readHostname(tree), s.readFstab(tree), s.readUsers(tree), s.readGroups(tree), s.readUnits(tree)} {
		if err != nil {
			return err
		}
	}
	return nil
}

// eachLine calls fn for every line of a file that is there, without comments.
func eachLine(tree fs.FS, name string, fn func(line string)) (err error) {
	opened, err := tree.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	text, err := io.ReadAll(io.LimitReader(opened, maxText+1))
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("it has more than %d bytes", maxText)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			fn(line)
		}
	}
	return nil
}

func (s *System) readHostname(tree fs.FS) error {
	return eachLine(tree, "etc/hostname", func(line string) { s.Hostname = cmp.Or(s.Hostname, line) })
}

func (s *System) readFstab(tree fs.FS) error {
	return eachLine(tree, "etc/fstab", func(line string) {
		if f := strings.Fields(line); len(f) >= 3 {
			s.Fstab = append(s.Fstab, FstabLine{f[0], f[1], f[2], strings.Join(f[3:min(4, len(f))], "")})
		}
	})
}

// noShell are programs that only end a login.
var noShell = []string{"nologin", "false", "true", "sync", "shutdown", "halt"}

// readUsers reads etc/passwd and what etc/shadow adds (passwd(5), shadow(5)), in the
// order of passwd.
func (s *System) readUsers(tree fs.FS) error {
	shadow := map[string]string{}
	if err := eachLine(tree, "etc/shadow", func(line string) {
		if f := strings.Split(line, ":"); len(f) > 1 {
			shadow[f[0]] = f[1]
		}
	}); err != nil {
		return err
	}
	return eachLine(tree, "etc/passwd", func(line string) {
		f := strings.Split(line, ":")
		if len(f) < 7 {
			return
		}
		u := User{Name: f[0], UID: f[2], GID: f[3], Comment: f[4], Home: f[5], Shell: cmp.Or(f[6], "/bin/sh"), secret: f[1]}
		if field, ok := shadow[u.Name]; ok {
			u.secret = field
		}
		u.Login = !slices.Contains(noShell, path.Base(u.Shell))
		switch {
		case u.secret == "":
			u.Password = "empty"
		case strings.HasPrefix(u.secret, "$") || len(u.secret) == 13: // crypt(5): a modular one, or that of old
			u.Password = "set"
		default:
			u.Password = "locked"
		}
		s.Users = append(s.Users, u)
	})
}

func (s *System) readGroups(tree fs.FS) error {
	return eachLine(tree, "etc/group", func(line string) {
		f := strings.Split(line, ":")
		if len(f) < 4 {
			return
		}
		g := Group{Name: f[0], GID: f[2]}
		for member := range strings.SplitSeq(f[3], ",") {
			if member = strings.TrimSpace(member); member != "" {
				g.Members = append(g.Members, member)
			}
		}
		s.Groups = append(s.Groups, g)
	})
}

// unitDir is where links of the administrator say what is started (systemctl(1)).
const unitDir = "etc/systemd/system"

// readUnits lists what links in unitDir enable, by way of another unit's .wants and
// the like or of a second name, and what links to /dev/null there mask.
func (s *System) readUnits(tree fs.FS) error {
	links, ok := tree.(fs.ReadLinkFS)
	if !ok {
		return errors.New("list units: the tree has no links")
	}
	entries, err := fs.ReadDir(tree, unitDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	state := map[string]string{}
	for _, e := range entries {
		name := path.Join(unitDir, e.Name())
		switch ext := path.Ext(e.Name()); {
		case e.Type()&fs.ModeSymlink != 0:
			target, err := links.ReadLink(name)
			if err != nil {
				return err
			}
			switch unit := path.Base(target); {
			case target == "/dev/null":
				state[e.Name()] = "masked"
			case unit == e.Name(), e.Name() == "default.target":
				// It says where the unit is, and which one is meant.
			case state[unit] == "":
				state[unit] = "enabled"
			}
		case e.IsDir() && slices.Contains([]string{".wants", ".requires", ".upholds"}, ext):
			wanted, err := fs.ReadDir(tree, name)
			if err != nil {
				return err
			}
			for _, w := range wanted {
				if w.Type()&fs.ModeSymlink != 0 && state[w.Name()] == "" {
					state[w.Name()] = "enabled"
				}
			}
		}
	}
	for name, state := range state {
		s.Units = append(s.Units, Unit{name, state})
	}
	slices.SortFunc(s.Units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}
