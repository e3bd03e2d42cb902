package sysprep

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/guest"
)

// userAccount removes the accounts of people from the databases, by editing them:
// the guest's own userdel would refuse half of it. Everything that has the name of an
// account goes with it, and its home unless others need that.
func userAccount(t *task) error {
	accounts, err := t.guest.Accounts()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lowest, highest, err := t.peoplesNumbers()
	if err != nil {
		return err
	}
	remove, keep := t.o.RemovedAccounts(), t.o.KeptAccounts()
	gone := map[string]bool{}
	var going, staying []guest.Account
	for _, a := range accounts {
		named := slices.Contains(remove, a.Name)
		switch {
		case slices.Contains(keep, a.Name) || len(remove) > 0 && !named:
			staying = append(staying, a)
		case a.UID < lowest || a.UID > highest:
			staying = append(staying, a)
			if named {
				t.notice(fmt.Sprintf("the account %s stays: its number %d is not between %d and %d, so it is the system's", a.Name, a.UID, lowest, highest))
			}
		default:
			going, gone[a.Name] = append(going, a), true
		}
	}
	if len(going) == 0 {
		return nil
	}
	if err := t.dropAccounts(going, gone, staying); err != nil {
		return err
	}
	for _, a := range going {
		if err := t.removeBelongings(a, staying); err != nil {
			return err
		}
	}
	return nil
}

// peoplesNumbers are the least and the greatest number of people's accounts.
func (t *task) peoplesNumbers() (lowest, highest int, err error) {
	lowest, highest = 1000, 60000 // shadow's own, where login.defs says nothing
	text, err := t.root.ReadFile("/etc/login.defs")
	if errors.Is(err, fs.ErrNotExist) {
		return lowest, highest, nil
	}
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "UID_MIN" && fields[0] != "UID_MAX" {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil || n < 1 {
			return 0, 0, fmt.Errorf("/etc/login.defs says %s %q, which is no number of an account", fields[0], fields[1])
		}
		if fields[0] == "UID_MIN" {
			lowest = n
		} else {
			highest = n
		}
	}
	return lowest, highest, nil
}

// dropAccounts edits the databases. passwd is the last: what it names is looked for
// in the others, also if this was stopped half-way.
func (t *task) dropAccounts(going []guest.Account, gone map[string]bool, staying []guest.Account) error {
	owners := map[string]bool{}
	for _, a := range going {
		owners[a.Name], owners[strconv.Itoa(a.UID)] = true, true
	}
	groups := map[string]bool{} // those that go
	edits := []struct {
		name string
		edit func(line string) (string, bool)
	}{
		{"/etc/group", func(line string) (string, bool) {
			fields := strings.Split(line, ":")
			if len(fields) < 4 {
				return line, true
			}
			others := dropMembers(fields, 3, gone)
			primary := slices.ContainsFunc(staying, func(a guest.Account) bool { return strconv.Itoa(a.GID) == fields[2] })
			if gone[fields[0]] && others == 0 && !primary {
				groups[fields[0]] = true
				return "", false
			}
			return strings.Join(fields, ":"), true
		}},
		{"/etc/gshadow", func(line string) (string, bool) {
			fields := strings.Split(line, ":")
			if len(fields) < 4 {
				return line, true
			}
			dropMembers(fields, 2, gone)
			dropMembers(fields, 3, gone)
			return strings.Join(fields, ":"), !groups[fields[0]]
		}},
		{"/etc/subuid", dropFirst(owners)}, {"/etc/subgid", dropFirst(owners)},
		{"/etc/shadow", dropFirst(gone)}, {"/etc/passwd", dropFirst(gone)},
	}
	for _, e := range edits {
		if err := t.root.EditLines(e.name, e.edit); err != nil {
			return err
		}
	}
	return nil
}

// dropMembers takes accounts out of a field that lists members, and returns how many
// are left.
func dropMembers(fields []string, i int, gone map[string]bool) int {
	members := strings.Split(fields[i], ",")
	left := slices.DeleteFunc(slices.Clone(members), func(name string) bool { return name == "" || gone[name] })
	if slices.ContainsFunc(members, func(name string) bool { return gone[name] }) {
		fields[i] = strings.Join(left, ",") // else it keeps its text
	}
	return len(left)
}

// dropFirst drops lines whose first field is one of names.
func dropFirst(names map[string]bool) func(line string) (string, bool) {
	return func(line string) (string, bool) {
		first, _, fielded := strings.Cut(line, ":")
		return line, !fielded || !names[first]
	}
}

// removeBelongings removes what lies elsewhere under the name of an account.
func (t *task) removeBelongings(a guest.Account, staying []guest.Account) error {
	if a.Name != path.Base(a.Name) || a.Name == "." || a.Name == ".." {
		return nil // no name of a file
	}
	for _, dir := range []string{
		"/var/mail", "/var/spool/mail", "/var/spool/cron", "/var/spool/cron/crontabs", "/var/spool/cron/tabs",
		"/var/lib/systemd/linger", "/var/lib/AccountsService/users", "/var/lib/AccountsService/icons",
	} {
		if name := path.Join(dir, a.Name); t.root.Exists(name) && !(dir == "/var/spool/cron" && t.root.IsDir(name)) {
			if err := t.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	home := path.Clean(a.Home)
	if !path.IsAbs(a.Home) || !t.root.Exists(home) {
		return nil
	}
	if why := needed(home, staying); why != "" {
		t.notice(fmt.Sprintf("the home %s of the account %s stays: %s", home, a.Name, why))
		return nil
	}
	return t.root.RemoveAll(home)
}

// needed says why a home must stay; "" if it need not.
func needed(home string, staying []guest.Account) string {
	parts := strings.Split(strings.Trim(home, "/"), "/")
	system := []string{"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "usr"}
	if len(parts) < 2 || slices.Contains(system, parts[0]) || parts[0] == "var" && len(parts) < 3 {
		return "it is a directory of the system"
	}
	for _, a := range staying {
		if other := path.Clean(a.Home); other == home || strings.HasPrefix(other, home+"/") {
			return "the account " + a.Name + " has its home there"
		}
	}
	return ""
}
