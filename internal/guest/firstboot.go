package guest

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"herdbook/internal/op"
)

// firstbootDir is on /var, which a system whose /usr is read-only can write to. It
// is its owner's alone: scripts and their output may say what is nobody's business.
const (
	firstbootDir    = "/var/lib/herdbook/firstboot"
	firstbootRun    = firstbootDir + "/run"
	firstbootRemove = firstbootDir + "/remove" // what the runner removes when all is done
	firstbootName   = "herdbook-firstboot"
)

// firstbootRunner does everything at the first boot, and then removes itself.
//
//go:embed firstboot.sh
var firstbootRunner string

// firstbootUnit starts it when the network is up. It has no limit of time: a
// package manager's first run can take long, and a script that is cut off has
// failed for no fault of its own.
const firstbootUnit = `[Unit]
Description=What this image does once, at its first boot
Wants=network-online.target
After=network-online.target
RequiresMountsFor=` + firstbootDir + `
ConditionPathExists=` + firstbootRun + `

[Service]
Type=oneshot
ExecStart=/bin/sh ` + firstbootRun + `
TimeoutStartSec=infinity
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// firstbootOpenRC is the service of Alpine and Gentoo.
const firstbootOpenRC = `#!/sbin/openrc-run
description="What this image does once, at its first boot"

depend() {
	need localmount
	use net
	after bootmisc net
}

start() {
	ebegin "Doing what is for the first boot"
	/bin/sh ` + firstbootRun + `
	eend $?
}
`

// firstbootSysV is the service of systems before systemd.
const firstbootSysV = `#!/bin/sh
# chkconfig: 2345 99 01
# description: What this image does once, at its first boot
### BEGIN INIT INFO
# Provides:          ` + firstbootName + `
# Required-Start:    $remote_fs $network $syslog
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: What this image does once, at its first boot
### END INIT INFO
case "$1" in
start) exec /bin/sh ` + firstbootRun + ` ;;
esac
`

// firstboot leaves a script in the image, and the service that will run it.
func (g *Guest) firstboot(o *op.Firstboot) error {
	err := g.firstbootScript(o)
	if err != nil {
		return fmt.Errorf("leave %s for the first boot: %w", o.Name, err)
	}
	return nil
}

func (g *Guest) firstbootScript(o *op.Firstboot) error {
	script, err := g.firstbootText(o)
	if err != nil {
		return err
	}
	remove, err := g.firstbootService()
	if err != nil {
		return err
	}
	if err := errors.Join(g.Root.MkdirAll(path.Dir(firstbootDir), 0o755), g.Root.MkdirAll(firstbootDir, 0o700)); err != nil {
		return err
	}
	number, err := g.nextFirstboot()
	if err != nil {
		return err
	}
	dir := path.Join(firstbootDir, fmt.Sprintf("%04d-%s", number, o.Name))
	if err := g.Root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files := []struct{ name, content string }{
		{path.Join(dir, "script"), script},
		{path.Join(dir, "start"), firstbootStart(script)},
		{path.Join(dir, "retries"), strconv.Itoa(o.Retries) + "\n"},
		{firstbootRun, firstbootRunner},
		{firstbootRemove, strings.Join(remove, "\n") + "\n"},
	}
	if o.Optional {
		files = append(files, struct{ name, content string }{path.Join(dir, "optional"), ""})
	}
	for _, f := range files {
		if err := g.Root.WriteFile(f.name, []byte(f.content), owned(0o700), false); err != nil {
			return err
		}
	}
	// Of an earlier life of the image: what it says is not true any more.
	return g.Root.RemoveAll(path.Join(firstbootDir, "result"))
}

// nextFirstboot counts on from what is there, of this run or an earlier one.
func (g *Guest) nextFirstboot() (int, error) {
	names, err := g.Root.ReadDir(firstbootDir)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, name := range names {
		number, _, _ := strings.Cut(name, "-")
		if n, err := strconv.Atoi(number); err == nil {
			last = max(last, n)
		}
	}
	if last >= 9999 {
		return 0, errors.New("there are 9999 already")
	}
	return last + 1, nil
}

// firstbootText is the script.
func (g *Guest) firstbootText(o *op.Firstboot) (string, error) {
	switch {
	case o.Command != "":
		return "#!/bin/sh\n" + o.Command + "\n", nil
	case o.Script != "":
		return strings.TrimSuffix(o.Script, "\n") + "\n", nil
	}
	_, m, err := g.manager()
	if err != nil {
		return "", err
	}
	text := "#!/bin/sh\nexport DEBIAN_FRONTEND=noninteractive\n"
	for _, c := range append(m.refresh(), m.install(o.Install)...) {
		text += quoted(c.Args)
		if len(c.Good) > 0 {
			var good []string
			for _, status := range c.Good {
				good = append(good, strconv.Itoa(status))
			}
			text += " || case $? in " + strings.Join(good, "|") + ") ;; *) exit 1 ;; esac"
		}
		text += "\n"
	}
	return text, nil
}

// firstbootStart starts a script by its interpreter, so that a file system which
// executes nothing is no hindrance. Shells end at the first failing line.
func firstbootStart(script string) string {
	first, _, _ := strings.Cut(script, "\n")
	args := shebang(first)
	if slices.Contains([]string{"sh", "dash", "bash", "ksh", "zsh", "mksh", "ash"}, path.Base(args[0])) {
		args = append(args, "-e")
	}
	return "exec " + quoted(args) + ` "$1"` + "\n"
}

// quoted writes a command for a shell.
func quoted(args []string) string {
	var words []string
	for _, arg := range args {
		words = append(words, "'"+strings.ReplaceAll(arg, "'", `'\''`)+"'")
	}
	return strings.Join(words, " ")
}

// firstbootService installs the service for the init system that the guest has,
// and returns what belongs to it.
func (g *Guest) firstbootService() ([]string, error) {
	switch {
	case g.Root.Exists("/lib/systemd/systemd"), g.Root.Exists("/usr/lib/systemd/systemd"):
		unit := "/etc/systemd/system/" + firstbootName + ".service"
		link := "/etc/systemd/system/multi-user.target.wants/" + firstbootName + ".service"
		files, err := g.install(unit, firstbootUnit, 0o644, []string{link})
		if err != nil {
			return nil, err
		}
		// A machine without an identifier enables what is to be enabled by default,
		// and some distributions have it disable the rest.
		preset, err := g.install("/etc/systemd/system-preset/00-"+firstbootName+".preset", "enable "+firstbootName+".service\n", 0o644, nil)
		return append(files, preset...), err
	case g.Root.Exists("/sbin/openrc-run"), g.Root.Exists("/usr/sbin/openrc-run"):
		script := "/etc/init.d/" + firstbootName
		return g.install(script, firstbootOpenRC, 0o755, []string{"/etc/runlevels/default/" + firstbootName})
	}
	return g.firstbootRC()
}

// firstbootRC installs it where the scripts of SysV's init are.
func (g *Guest) firstbootRC() ([]string, error) {
	init := ""
	for _, dir := range []string{"/etc/init.d", "/etc/rc.d/init.d"} {
		if st, err := g.Root.Stat(dir); err == nil && isDir(st) {
			init = path.Join(dir, firstbootName)
			break
		}
	}
	var links []string
	// The Red Hat family's, SUSE's, Debian's.
	for _, above := range []string{"/etc/rc.d", "/etc/init.d", "/etc"} {
		for _, level := range []string{"rc2.d", "rc3.d", "rc4.d", "rc5.d"} {
			if st, err := g.Root.Lstat(path.Join(above, level)); err == nil && isDir(st) {
				links = append(links, path.Join(above, level, "S99"+firstbootName))
			}
		}
	}
	if init == "" || len(links) == 0 {
		return nil, errors.New("no init system that herdbook knows is in the guest: neither systemd nor OpenRC nor SysV's rc directories")
	}
	return g.install(init, firstbootSysV, 0o755, links)
}

// install writes a service's file and the links to it.
func (g *Guest) install(name, content string, mode uint32, links []string) ([]string, error) {
	if err := g.Root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return nil, err
	}
	if err := g.Root.WriteFile(name, []byte(content), owned(mode), false); err != nil {
		return nil, err
	}
	for _, link := range links {
		if err := g.Root.MkdirAll(path.Dir(link), 0o755); err != nil {
			return nil, err
		}
		if err := g.Root.Symlink(name, link); err != nil {
			return nil, err
		}
	}
	return append(links, name), nil
}
