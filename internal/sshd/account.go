package sshd

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// account is one of the system.
type account struct {
	name, home, shell string
	uid, gid          uint32
	groups            []uint32 // supplementary
	more              []string // of the environment
}

// lookUp finds an account in /etc/passwd and /etc/group.
func lookUp(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	a := account{name: u.Username, home: u.HomeDir}
	if a.uid, err = number(u.Uid); err != nil {
		return a, err
	}
	if a.gid, err = number(u.Gid); err != nil {
		return a, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return a, err
	}
	for _, id := range ids {
		n, err := number(id)
		if err != nil {
			return a, err
		}
		a.groups = append(a.groups, n)
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return a, err
	}
	a.shell = cmp.Or(shellOf(string(passwd), name), "/bin/sh")
	return a, nil
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of an account or a group", id)
	}
	return uint32(n), nil
}

// shellOf is the shell of an account in a text as of /etc/passwd; "" for the usual one.
func shellOf(passwd, name string) string {
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) == 7 && fields[0] == name {
			return fields[6]
		}
	}
	return ""
}

// dir is where commands begin.
func (a account) dir() string {
	if st, err := os.Stat(a.home); err == nil && st.IsDir() {
		return a.home
	}
	return "/"
}

func (a account) environment() []string {
	path := "/usr/local/bin:/usr/bin:/bin"
	if a.uid == 0 {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	usual := []string{"USER=" + a.name, "LOGNAME=" + a.name, "HOME=" + a.home, "SHELL=" + a.shell, "PATH=" + path, "LANG=C.UTF-8"}
	return append(usual, a.more...)
}

// attributes give a command a session of its own, and the account's rights in place of
// the server's.
func (a account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setsid: true}
	if int64(a.uid) != int64(os.Geteuid()) || a.uid == 0 {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
	}
	return attributes
}
