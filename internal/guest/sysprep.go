package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
	"herdbook/internal/op"
)

// sysprepOperations says how each operation is done; the order is that of
// op.SysprepOperations.
var sysprepOperations = map[string]func(*Guest) error{
	"package-manager-cache": (*Guest).sysprepPackageCache,
	"dhcp-client-state":     (*Guest).sysprepDHCP,
	"logfiles":              (*Guest).sysprepLogs,
	"tmp-files":             (*Guest).sysprepTemporary,
	"ssh-hostkeys":          (*Guest).sysprepHostKeys,
	"random-seed":           (*Guest).sysprepSeed,
	"machine-id":            (*Guest).sysprepMachineID,
}

// sysprep makes the image fit to be cloned.
func (g *Guest) sysprep(o *op.Sysprep) error {
	for _, name := range op.SysprepOperations {
		if len(o.Operations) > 0 && !slices.Contains(o.Operations, name) {
			continue
		}
		g.Sink.Emit(event.Event{Kind: event.Phase, Text: "sysprep " + name})
		if err := sysprepOperations[name](g); err != nil {
			return fmt.Errorf("sysprep %s: %w", name, err)
		}
	}
	return nil
}

// removeGlobs removes what any of the patterns matches.
func (g *Guest) removeGlobs(patterns ...string) error {
	for _, pattern := range patterns {
		if err := g.removeGlob(pattern); err != nil {
			return err
		}
	}
	return nil
}

// removeFiles removes the regular files below a directory and leaves its
// directories, which packages own.
func (g *Guest) removeFiles(dir string) error {
	return g.Root.Walk(dir, func(name string, st unix.Stat_t) error {
		if !isFile(st) {
			return nil
		}
		return g.Root.RemoveAll(name)
	})
}

// sysprepPackageCache removes downloaded packages, the lists of what
// repositories have, and apt's binary caches of both.
func (g *Guest) sysprepPackageCache() error {
	for _, dir := range []string{"/var/cache/apt/archives", "/var/lib/apt/lists", "/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum", "/var/cache/zypp"} {
		if err := g.removeFiles(dir); err != nil {
			return err
		}
	}
	return g.removeGlobs("/var/cache/apt/*.bin")
}

// sysprepDHCP removes leases, so that no clone asks for another's address.
func (g *Guest) sysprepDHCP() error {
	return g.removeGlobs("/var/lib/dhclient/*", "/var/lib/dhcp/*", "/var/lib/dhcpcd/*", "/var/lib/NetworkManager/*.lease", "/run/systemd/netif/leases/*")
}

// sysprepTemporary empties /tmp and /var/tmp; the directories stay.
func (g *Guest) sysprepTemporary() error {
	return g.removeGlobs("/tmp/{*,.[!.]*,..?*}", "/var/tmp/{*,.[!.]*,..?*}")
}

// sysprepSeed removes the stored entropy; a seed that all clones share is worse
// than none.
func (g *Guest) sysprepSeed() error {
	return g.removeGlobs("/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/var/lib/random-seed", "/var/lib/misc/random-seed", "/etc/random-seed", "/boot/efi/loader/random-seed", "/boot/loader/random-seed")
}

// sysprepMachineID leaves an empty /etc/machine-id, which systemd fills at the
// first boot of each clone, and no other copy of it.
func (g *Guest) sysprepMachineID() error {
	const name = "/etc/machine-id"
	if st, err := g.Root.Lstat(name); err == nil && isFile(st) {
		if err := g.Root.Truncate(name); err != nil {
			return err
		}
	}
	const dbus = "/var/lib/dbus/machine-id"
	st, err := g.Root.Lstat(dbus)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && !isFile(st) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.Root.RemoveAll(dbus)
}

// logGlobs are virt-sysprep's, with those that it has wrong or lacks.
var logGlobs = []string{
	"/var/log/{,.}*.log*", "/var/log/{btmp,cron,dmesg,lastlog,maillog,messages,secure,spooler,tallylog,wtmp,debug,syslog,faillog,firewalld,grubby,xferlog,aptitude,daemon.log,kern.log}*",
	"/var/log/{audit,mail,anaconda,installer,sa,gdm,lightdm,ntpstats,rhsm,journal,apt,exim4,ConsoleKit,sysstat,unattended-upgrades}/*",
	"/var/log/apache2/*_log{,-*}", "/var/log/httpd/*log", "/var/log/nginx/*", "/var/log/squid/*.log", "/var/log/cups/*_log*",
	"/var/log/ceph/*.log", "/var/log/chrony/*.log", "/var/log/libvirt/*/*.log", "/var/log/libvirt/*.log", "/var/log/tuned/tuned.log",
	"/var/adm/autoinstall/{cache,files,logs,scripts}/*", "/var/log/setroubleshoot/*.log", "/var/log/ppp/connect-errors", "/var/log/ntp", "/var/log/anaconda.syslog",
	"/var/log/glusterfs/*", "/var/log/jetty/jetty-console.log", "/var/log/BackupPC/LOG", "/var/log/postgresql/*",
	"/var/named/data/named.run", "/var/lib/logrotate{.status,/status}", "/var/cache/gdm/*", "/var/lib/AccountsService/users/*",
	"/var/lib/fprint/*", "/var/cache/fontconfig/*", "/var/cache/man/*",
	"/root/{install.log,install.log.syslog,anaconda-ks.cfg,anaconda-post.log,initial-setup-ks.cfg,original-ks.cfg}",
}

// sysprepLogs removes logs. Those of login accounting come back empty with the
// owner and mode that their programs expect.
func (g *Guest) sysprepLogs() error {
	kept := map[string]Attributes{}
	for _, name := range []string{"/var/log/btmp", "/var/log/wtmp", "/var/log/lastlog"} {
		if st, err := g.Root.Lstat(name); err == nil && isFile(st) {
			kept[name] = Attributes{st.Mode & 0o7777, int(st.Uid), int(st.Gid)}
		}
	}
	if err := g.removeGlobs(logGlobs...); err != nil {
		return err
	}
	for name, a := range kept {
		if err := g.Root.WriteFile(name, nil, a, false); err != nil {
			return err
		}
	}
	return nil
}

const (
	hostKeysUnit = "/etc/systemd/system/herdbook-ssh-hostkeys.service"
	hostKeysLink = "/etc/systemd/system/multi-user.target.wants/herdbook-ssh-hostkeys.service"
)

// hostKeysService makes host keys at a clone's first boot where the
// distribution does not: Debian's sshd refuses to start without any.
const hostKeysService = `[Unit]
Description=Make this machine's SSH host keys
Before=ssh.service ssh.socket sshd.service
After=systemd-random-seed.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
`

// sysprepHostKeys removes the SSH host keys and sees to it that they come back.
func (g *Guest) sysprepHostKeys() error {
	if err := g.removeGlobs("/etc/ssh/*_host_*"); err != nil {
		return err
	}
	for _, name := range []string{"/lib/systemd/system/sshd-keygen.target", "/usr/lib/systemd/system/sshd-keygen.target", "/usr/lib/systemd/system/sshd-keygen.service"} {
		if g.Root.Exists(name) {
			return nil // the distribution makes them itself
		}
	}
	if !g.Root.Exists("/usr/sbin/sshd") || !g.Root.Exists("/etc/systemd/system") {
		return nil
	}
	if err := g.Root.MkdirAll("/etc/systemd/system/multi-user.target.wants", 0o755); err != nil {
		return err
	}
	return errors.Join(
		g.Root.WriteFile(hostKeysUnit, []byte(hostKeysService), owned(0o644), false),
		g.Root.Symlink(hostKeysUnit, hostKeysLink),
	)
}
