package guest

import "slices"

// managers are the package managers that are known, each with the files by which
// a guest shows that it is the one: several can be installed, as apt is on
// Fedora, and only one has the system's packages.
var managers = []struct {
	name    string
	files   []string
	manager manager
}{
	{"apt", []string{"/usr/bin/apt-get", "/var/lib/dpkg/status"}, apt{}},
	{"zypper", []string{"/usr/bin/zypper"}, zypper{}}, // before dnf, which openSUSE has, too
	{"dnf5", []string{"/usr/bin/dnf5"}, dnf{"dnf5"}},
	{"dnf", []string{"/usr/bin/dnf"}, dnf{"dnf"}},
	{"yum", []string{"/usr/bin/yum"}, yum{}},
	{"pacman", []string{"/usr/bin/pacman"}, pacman{}},
	{"apk", []string{"/sbin/apk"}, apk{}},
	{"xbps", []string{"/usr/bin/xbps-install"}, xbps{}},
	{"urpmi", []string{"/usr/sbin/urpmi"}, urpmi{}},
}

// with is a command with names behind it.
func with(names []string, args ...string) Command {
	return Command{Args: append(slices.Clone(args), names...)}
}

// dnf is the manager of Fedora and of the Red Hat family since 8, in both its
// generations. A repository that cannot be reached fails, whatever its file says.
type dnf struct{ program string }

func (d dnf) command(names []string, args ...string) Command {
	return with(names, append([]string{d.program, "-y", "--setopt=*.skip_if_unavailable=False", "--setopt=install_weak_deps=False"}, args...)...)
}

func (d dnf) refresh() []Command { return []Command{d.command(nil, "makecache")} }
func (d dnf) upgrade() []Command { return []Command{d.command(nil, "--best", "upgrade")} }

func (d dnf) install(names []string) []Command { return []Command{d.command(names, "install")} }
func (d dnf) remove(names []string) []Command  { return []Command{d.command(names, "remove")} }

// yum is the manager of the Red Hat family to 7. It would install some of several
// packages and be content.
type yum struct{}

func (yum) command(names []string, args ...string) Command {
	return with(names, append([]string{"yum", "-y", "--setopt=skip_missing_names_on_install=False", "--setopt=skip_missing_names_on_update=False"}, args...)...)
}

func (y yum) refresh() []Command { return []Command{y.command(nil, "makecache")} }
func (y yum) upgrade() []Command { return []Command{y.command(nil, "update")} }

func (y yum) install(names []string) []Command { return []Command{y.command(names, "install")} }
func (y yum) remove(names []string) []Command  { return []Command{y.command(names, "remove")} }

// zypper is the manager of SUSE. It ends with 102 if a restart of the system
// would be good, which a clone's first boot is, and with 103 if it was itself
// among what it changed: then there may be more to do, so it is asked again.
type zypper struct{}

const (
	zypperReboot  = 102
	zypperRestart = 103
)

func (zypper) command(names []string, args ...string) Command {
	c := with(names, append([]string{"zypper", "--non-interactive"}, args...)...)
	c.Good = []int{zypperReboot}
	return c
}

func (z zypper) refresh() []Command { return []Command{z.command(nil, "refresh")} }

func (z zypper) upgrade() []Command {
	first := z.command(nil, "dist-upgrade", "--auto-agree-with-licenses", "--no-recommends")
	first.Good = append(first.Good, zypperRestart)
	return []Command{first, z.command(nil, "dist-upgrade", "--auto-agree-with-licenses", "--no-recommends")}
}

func (z zypper) install(names []string) []Command {
	c := z.command(names, "install", "--auto-agree-with-licenses", "--no-recommends", "--")
	c.Good = append(c.Good, zypperRestart)
	return []Command{c}
}

func (z zypper) remove(names []string) []Command {
	return []Command{z.command(names, "remove", "--clean-deps", "--")}
}

// pacman is the manager of Arch, where a package may be installed only together
// with all upgrades: half an upgrade is not supported there.
type pacman struct{}

func (pacman) refresh() []Command { return []Command{with(nil, "pacman", "-Sy", "--noconfirm")} }
func (pacman) upgrade() []Command { return []Command{with(nil, "pacman", "-Su", "--noconfirm")} }

func (pacman) install(names []string) []Command {
	return []Command{with(names, "pacman", "-Su", "--noconfirm", "--needed", "--")}
}

func (pacman) remove(names []string) []Command {
	return []Command{with(names, "pacman", "-Rns", "--noconfirm", "--")}
}

// apk is the manager of Alpine.
type apk struct{}

func (apk) refresh() []Command { return []Command{with(nil, "apk", "--no-progress", "update")} }
func (apk) upgrade() []Command { return []Command{with(nil, "apk", "--no-progress", "upgrade")} }

func (apk) install(names []string) []Command {
	return []Command{with(names, "apk", "--no-progress", "add")}
}

func (apk) remove(names []string) []Command {
	return []Command{with(names, "apk", "--no-progress", "del", "--purge")}
}

// xbps is the manager of Void, which wants to be the newest before it upgrades
// anything else.
type xbps struct{}

func (xbps) refresh() []Command { return []Command{with(nil, "xbps-install", "-y", "-S")} }

func (xbps) upgrade() []Command {
	return []Command{with(nil, "xbps-install", "-y", "-u", "xbps"), with(nil, "xbps-install", "-y", "-u")}
}

func (xbps) install(names []string) []Command {
	return []Command{with(names, "xbps-install", "-y", "--")}
}

func (xbps) remove(names []string) []Command {
	return []Command{with(names, "xbps-remove", "-y", "-R", "--")}
}

// urpmi is the manager of Mageia and of OpenMandriva's past.
type urpmi struct{}

func (urpmi) refresh() []Command { return []Command{with(nil, "urpmi.update", "-a")} }

func (urpmi) upgrade() []Command {
	return []Command{with(nil, "urpmi", "--auto", "--no-recommends", "--auto-select")}
}

func (urpmi) install(names []string) []Command {
	return []Command{with(names, "urpmi", "--auto", "--no-recommends")}
}

func (urpmi) remove(names []string) []Command {
	return []Command{with(names, "urpme", "--auto")}
}

// rpmHas asks rpm for a package, or for another that takes its place.
func rpmHas(name string) Command {
	return Command{Args: []string{"rpm", "--query", "--quiet", "--whatprovides", name}}
}

func (dnf) has(name string) Command    { return rpmHas(name) }
func (yum) has(name string) Command    { return rpmHas(name) }
func (zypper) has(name string) Command { return rpmHas(name) }
func (urpmi) has(name string) Command  { return rpmHas(name) }
func (pacman) has(name string) Command { return with([]string{name}, "pacman", "-Qq", "--") }
func (apk) has(name string) Command    { return with([]string{name}, "apk", "info", "-e") }
func (xbps) has(name string) Command   { return with([]string{name}, "xbps-query", "--") }
