package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// account is a line of the guest's passwd.
type account struct {
	name     string
	uid, gid int
	home     string
}

// accounts reads the guest's passwd. Lines that are none are passed over, as
// the C library does.
func (g *Guest) accounts() ([]account, error) {
	text, err := g.Root.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	var list []account
	for line := range bytes.Lines(text) {
		f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(f) < 7 {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil {
			list = append(list, account{f[0], uid, gid, f[5]})
		}
	}
	return list, nil
}

// Account is an account of the guest.
type Account struct {
	Name     string
	UID, GID int
	Home     string // as passwd has it: be it no absolute path
}

// Accounts reads the guest's passwd, line by line. Without one the error is
// fs.ErrNotExist.
func (g *Guest) Accounts() ([]Account, error) {
	list, err := g.accounts()
	if err != nil {
		return nil, err
	}
	var accounts []Account
	for _, a := range list {
		accounts = append(accounts, Account{a.name, a.uid, a.gid, a.home})
	}
	return accounts, nil
}

// account finds one by its name.
func (g *Guest) account(name string) (account, error) {
	list, err := g.accounts()
	if err != nil {
		return account{}, err
	}
	for _, a := range list {
		if a.name == name {
			return a, nil
		}
	}
	return account{}, fmt.Errorf("the guest has no account %q", name)
}

// group finds a group's number by its name.
func (g *Guest) group(name string) (int, error) {
	text, err := g.Root.ReadFile("/etc/group")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		f := strings.Split(string(line), ":")
		if len(f) >= 3 && f[0] == name {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("the guest has no group %q", name)
}

// owner finds an account by its name or its number; a number may have none.
func (g *Guest) owner(owner string) (account, error) {
	uid, err := strconv.Atoi(owner)
	if err != nil {
		return g.account(owner)
	}
	list, err := g.accounts()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return account{}, err
	}
	for _, a := range list {
		if a.uid == uid {
			return a, nil
		}
	}
	return account{uid: uid}, nil
}

// ids turns an owner and a group, names or numbers or nothing, into numbers. No
// group means the owner's, if the guest knows the owner.
func (g *Guest) ids(owner, group string) (uid, gid int, err error) {
	if owner != "" {
		a, err := g.owner(owner)
		if err != nil {
			return 0, 0, err
		}
		uid, gid = a.uid, a.gid
	}
	if group != "" {
		if gid, err = strconv.Atoi(group); err != nil {
			if gid, err = g.group(group); err != nil {
				return 0, 0, err
			}
		}
	}
	return uid, gid, nil
}
