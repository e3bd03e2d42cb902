package install

import (
	"regexp"
	"strings"
	"time"

	"herdbook/internal/definition"
)

// The hooks that ride in the initrd beside the answers. The installer runs what
// it finds in these directories (rootskel's debian-installer-startup.d, finish-
// install's finish-install.d), in the order of the numbers: the first sends the
// system log to the second serial line from the beginning on; the second takes
// the build's own proxy out of the image; the last one is run when all else is
// done, and speaks the last words.
const (
	logHook  = "/lib/debian-installer-startup.d/S11herdbook"
	tidyHook = "/usr/lib/finish-install.d/90herdbook"
	lastHook = "/usr/lib/finish-install.d/99herdbook"

	// The end of the scripts that start the installer would take it along.
	logScript = `#!/bin/sh
: >> /var/log/syslog
trap '' HUP
tail -n +1 -f /var/log/syslog > /dev/ttyS1 2> /dev/null < /dev/null &
`
	tidyScript = `#!/bin/sh
set -e
for f in /target/etc/apt/apt.conf /target/etc/apt/apt.conf.d/*; do
	[ ! -f "$f" ] || sed -i '\|PROXY|d' "$f"
done
[ -s /target/etc/apt/apt.conf ] || rm -f /target/etc/apt/apt.conf
`
	// Straight to the line: what goes through the log may come too late for it.
	lastScript = `#!/bin/sh
echo "` + doneWords + `" > /dev/ttyS1
`
)

// preseed is the Debian installer, of Debian and of Ubuntu up to 20.04. Its text
// frontend says on a plain line what the others draw.
func preseed(i definition.Install, p Place) Session {
	s := Session{
		CommandLine: commandLine(i,
			"DEBIAN_FRONTEND=text", "TERM=dumb", "auto=true", "priority=critical", "debian-installer/exit/poweroff=true",
			setting("mirror/http/proxy", p.Proxy), removable(i.Firmware)),
		Log: SerialLine,
		Files: []File{
			{Path: "/preseed.cfg", Mode: regular | 0o600, Data: []byte(i.Answers.Value)},
			{Path: logHook, Mode: regular | 0o755, Data: []byte(logScript)},
			{Path: lastHook, Mode: regular | 0o755, Data: []byte(lastScript)},
		},
		Reading: debianReading(),
	}
	if p.Proxy != "" && p.Proxy != i.MirrorProxy {
		script := strings.ReplaceAll(tidyScript, "PROXY", p.Proxy)
		s.Files = append(s.Files, File{Path: tidyHook, Mode: regular | 0o755, Data: []byte(script)})
	}
	return s
}

// removable has GRUB lie where every UEFI firmware looks for it: the variables of
// the machine that installs do not come along.
func removable(firmware string) string {
	if firmware != "uefi" {
		return ""
	}
	return "grub-installer/force-efi-extra-removable=true"
}

// MayCache tells whether an installation can fetch its packages through a proxy of
// the build's own: it knows apt's archives alone; nobody has named another proxy;
// no address is one that only the guest understands, or has a port of five digits,
// of which apt-cacher-ng knows only a part.
func MayCache(i definition.Install) bool {
	text := i.Answers.Value + "\n" + strings.Join(i.Arguments, "\n")
	return i.Kind == "preseed" && i.MirrorProxy == "" && !uncacheable.MatchString(text)
}

// uncacheable finds in answers or arguments a proxy, an address on QEMU's user
// network, or a high port.
var uncacheable = regexp.MustCompile(`(?m)^[^#\n]*(?:\bmirror/http/proxy(?:[ \t]+string[ \t]+|=)\S|\b10\.0\.2\.\d|\w:\d{5}\b)`)

// debianReading follows the main menu, which logs the item that it is at, and
// cdebconf's text frontend: the strings of its text.so, of which other languages
// keep the form: a question mark between the words of a prompt that ends in an
// angle bracket, and words in brackets.
func debianReading() Reading {
	item := func(names string) *regexp.Regexp {
		return regexp.MustCompile(`main-menu\[\d+\]: (?:INFO: )?Menu item '(?:` + names + `)' selected`)
	}
	return Reading{
		Phases: []Phase{
			{Name: Media, Limit: 15 * time.Minute, Silence: 3 * time.Minute},
			{Name: Network, Begins: item(`ethdetect|netcfg|network-preseed|choose-mirror`), Limit: 20 * time.Minute, Silence: 5 * time.Minute},
			{Name: Media, Begins: item(`download-installer|load-cdrom|load-iso|iso-scan`), Limit: 30 * time.Minute, Silence: 5 * time.Minute},
			{Name: Partition, Begins: item(`disk-detect|partman-base|partman-lvm|partman-crypto`), Limit: 20 * time.Minute, Silence: 5 * time.Minute},
			{Name: BaseSystem, Begins: item(`bootstrap-base|live-installer`), Limit: 90 * time.Minute, Silence: 15 * time.Minute},
			{Name: Packages, Begins: item(`apt-setup-udeb|apt-setup|pkgsel|tasksel`), Limit: 3 * time.Hour, Silence: 15 * time.Minute},
			{Name: BootLoader, Begins: item(`grub-installer|lilo-installer|systemd-boot-installer|nobootloader`), Limit: 20 * time.Minute, Silence: 10 * time.Minute},
			{Name: Finish, Begins: item(`finish-install`), Limit: 60 * time.Minute, Silence: 15 * time.Minute},
		},
		Progress: regexp.MustCompile(` \.\.\..* (\d{1,3})%$`),
		Questions: []*regexp.Regexp{
			regexp.MustCompile(`^[^\d<>?][^<>?]{1,40}\?[^>?]{3,200}> ?$`),
			regexp.MustCompile(`^\[\pL[^\[\]]{6,70}\] ?$`),
		},
		Titles: regexp.MustCompile(`^-{3,}$`),
		// It gives up nothing by itself: it shows its menu, which waits for a person.
		Complaints: []*regexp.Regexp{
			regexp.MustCompile(`main-menu\[\d+\]: (?:WARNING \*\*: )?Configuring '[^']+' failed with error code`),
			regexp.MustCompile(`(?:net-retriever|choose-mirror(?:\[\d+\])?|debootstrap|in-target|partman|preseed): (?i:error|warning|E):? `),
		},
		Done: regexp.MustCompile(doneWords),
		Idle: 3 * time.Minute,
	}
}
