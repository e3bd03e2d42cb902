package sysprep

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/guest"
)

const (
	hostKeysUnit = "/etc/systemd/system/herdbook-ssh-hostkeys.service"
	hostKeysLink = "/etc/systemd/system/multi-user.target.wants/herdbook-ssh-hostkeys.service"
)

// unitDirectories are systemd's, in the order of precedence.
const unitDirectories = "/{etc,usr/lib,lib}/systemd/system/"

// sshHostkeys removes the keys with which this machine proves to be itself, and sees
// to it that each clone makes its own before its sshd starts.
func sshHostkeys(t *task) error {
	custom, named, err := t.customHostKeys()
	if err != nil {
		return err
	}
	if err := t.root.Unlink("/etc/ssh/*_host_*"); err != nil {
		return err
	}
	for _, name := range custom {
		if err := errors.Join(t.root.RemoveAll(name), t.root.RemoveAll(name+".pub"), t.root.RemoveAll(name+"-cert.pub")); err != nil {
			return err
		}
	}
	if !t.root.Exists("/usr/sbin/sshd") && !t.root.Exists("/usr/bin/sshd") {
		return nil
	}
	if t.root.Exists("/usr/lib/systemd/systemd") || t.root.Exists("/lib/systemd/systemd") {
		return t.hostKeysBySystemd(custom, named)
	}
	return t.hostKeysByScript(custom)
}

// defaultHostKey are those that ssh-keygen -A makes, and every init script.
var defaultHostKey = regexp.MustCompile(`^/etc/ssh/ssh_host_(rsa|dsa|ecdsa|ed25519)_key$`)

// plainPath is one that needs no quoting in a unit.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._+@-]+$`)

// namedHostKeys are the values of HostKey in sshd_config(5), in their order.
func namedHostKeys(settings string) []string {
	var names []string
	for line := range strings.Lines(settings) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n=\"", r) })
		if len(fields) > 1 && strings.EqualFold(fields[0], "HostKey") && fields[1] != "none" {
			names = append(names, fields[1])
		}
	}
	return names
}

// customHostKeys are the keys that the settings of sshd name in other places: those
// that are there, and those that are gone and must come back. What is there and is no
// key is not ours to remove, whatever the settings say. Named tells whether they name
// any at all, in the usual places too.
func (t *task) customHostKeys() (custom []string, named bool, err error) {
	files, err := t.root.Glob("/etc/ssh/{sshd_config,sshd_config.d/*.conf}")
	if err != nil {
		return nil, false, err
	}
	for _, file := range files {
		settings, err := t.text(file)
		if err != nil {
			return nil, false, err
		}
		for _, name := range namedHostKeys(settings) {
			named = true
			if defaultHostKey.MatchString(name) {
				continue
			}
			if !plainPath.MatchString(name) {
				return nil, false, fmt.Errorf("%s names the host key %q: herdbook can have only plain paths made anew", file, name)
			}
			content, err := t.text(name)
			if err != nil {
				return nil, false, err
			}
			isKey := strings.Contains(content, "PRIVATE KEY")
			if isKey && !t.root.IsFile(name) {
				return nil, false, fmt.Errorf("%s names the host key %s, which is a link: name the file that is meant", file, name)
			}
			if isKey || !t.root.Exists(name) {
				custom = append(custom, name)
			}
		}
	}
	slices.Sort(custom)
	return slices.Compact(custom), named, nil
}

// text is what a file holds, links followed inside the root; "" if there is none.
func (t *task) text(name string) (string, error) {
	if _, err := t.root.Stat(name); err != nil || t.root.IsDir(name) {
		return "", nil
	}
	text, err := t.root.ReadFile(name)
	return string(text), err
}

// hostKeysBySystemd adds a unit that makes the keys, unless the distribution does.
func (t *task) hostKeysBySystemd(custom []string, named bool) error {
	theirs, err := t.distributionMakesHostKeys(named)
	if err != nil || theirs && len(custom) == 0 {
		return err
	}
	if err := t.root.MkdirAll("/etc/systemd/system/multi-user.target.wants", 0o755); err != nil {
		return err
	}
	return errors.Join(
		t.root.WriteFile(hostKeysUnit, []byte(hostKeysService(!theirs, custom)), guest.Attributes{Mode: 0o644}, false),
		t.root.Symlink(hostKeysUnit, hostKeysLink),
	)
}

// keyMaker is how the units and scripts of a distribution name what makes host keys.
var keyMaker = regexp.MustCompile(`keygen|gen-?keys`)

// distributionMakesHostKeys tells whether sshd's own units see to its keys, by a unit
// beside them (Red Hat, Arch) or by a command of their own (SUSE). The latter does
// nothing where the settings name any key. Debian's unit, since Debian 13, works at a first
// boot alone, which that of an image with an empty machine-id is not.
func (t *task) distributionMakesHostKeys(named bool) (bool, error) {
	makers, err := t.root.Glob(unitDirectories + "{sshd-keygen.target,sshd-keygen.service,sshd-keygen@.service,sshdgenkeys.service}")
	if err != nil {
		return false, err
	}
	for _, name := range makers {
		text, err := t.text(name)
		if err != nil || !strings.Contains(text, "ConditionFirstBoot=yes") {
			return err == nil, err
		}
	}
	units, err := t.root.Glob(unitDirectories + "{ssh,sshd}.service")
	if err != nil {
		return false, err
	}
	for _, name := range units {
		text, err := t.text(name)
		if err != nil {
			return false, err
		}
		if keyMaker.MatchString(text) && !(named && strings.Contains(text, "sshd-gen-keys-start")) {
			return true, nil
		}
	}
	return false, nil
}

// hostKeysService is the unit. It comes early, without the usual dependencies: a
// socket that starts sshd is there before basic.target, and must wait too.
func hostKeysService(defaults bool, custom []string) string {
	var conditions, commands strings.Builder
	if defaults {
		conditions.WriteString("ConditionPathExistsGlob=|!/etc/ssh/ssh_host_*_key\n")
		commands.WriteString("ExecStart=/usr/bin/ssh-keygen -A\n")
	}
	for _, name := range custom {
		fmt.Fprintf(&conditions, "ConditionPathExists=|!%s\n", name)
		// With - since ssh-keygen asks before it writes over a key, and gets no answer.
		fmt.Fprintf(&commands, "ExecStart=-/usr/bin/%s\n", makeHostKey(name))
	}
	return `[Unit]
Description=Make this machine's SSH host keys
DefaultDependencies=no
Conflicts=shutdown.target
After=local-fs.target systemd-random-seed.service
Before=ssh.service sshd.service ssh.socket sshd.socket shutdown.target
` + conditions.String() + `
[Service]
Type=oneshot
` + commands.String() + `RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
`
}

// makeHostKey is the command that makes one key, of the kind that its name tells.
func makeHostKey(name string) string {
	kind := "ed25519"
	for _, other := range []string{"rsa", "ecdsa"} {
		if strings.Contains(name, other) {
			kind = other
		}
	}
	return fmt.Sprintf(`ssh-keygen -q -t %s -N "" -f %s`, kind, name)
}

// hostKeysByScript sees to the keys where there is no systemd. The start scripts of
// Alpine, Gentoo, Void and old Red Hat make the usual ones; Debian's makes none, but
// reads its settings, which are shell, before it starts sshd.
func (t *task) hostKeysByScript(custom []string) error {
	const script, settings = "/etc/init.d/ssh", "/etc/default/ssh"
	text, err := t.text(script)
	if err != nil {
		return err
	}
	lines := []string{"ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -A >/dev/null # made by herdbook"}
	if text == "" || keyMaker.MatchString(text) {
		lines = nil
	}
	for _, name := range custom {
		lines = append(lines, fmt.Sprintf("test -e %s || %s # made by herdbook", name, makeHostKey(name)))
	}
	switch {
	case len(lines) == 0:
		return nil
	case !strings.Contains(text, settings):
		t.notice("nothing makes all SSH host keys at a clone's first boot: there is no systemd, and no start script that reads " + settings)
		return nil
	}
	old, err := t.text(settings)
	if err != nil {
		return err
	}
	if old != "" && !strings.HasSuffix(old, "\n") {
		old += "\n"
	}
	added := false
	for _, line := range lines {
		if !strings.Contains(old, line+"\n") {
			old, added = old+line+"\n", true
		}
	}
	if !added {
		return nil
	}
	if err := t.root.MkdirAll("/etc/default", 0o755); err != nil {
		return err
	}
	return t.root.WriteFile(settings, []byte(old), guest.Attributes{Mode: 0o644}, true)
}
