package op

// SysprepOperations is every operation of sysprep, in the order in which they are
// carried out: by name, customize behind the others, then those of the disk.
// installer-proxy comes before installer-leftovers, in which it looks for
// addresses of proxies. docs/sysprep.md is made of this table.
//
// The names and defaults are those of virt-sysprep, with the names hostname and
// random-seed of its old releases; the rest is what images of today leak besides.
var SysprepOperations = []SysprepOperation{
	{
		Name: "abrt-data", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the crash reports of ABRT",
		Description: "Empties `/var/spool/abrt`, `/var/spool/abrt-upload` and `/var/tmp/abrt`.",
		Difference:  "The two other directories, and names with a leading dot.",
	},
	{
		Name: "agent-ids", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identities of monitoring, inventory and network agents",
		Description: "Removes what these made to name the machine: Tailscale, ZeroTier, Netdata, Consul, Nomad, Teleport, Elastic's Beats, osquery, Amazon SSM, Google's guest agent, Ubuntu Pro, Landscape, Insights, Wazuh, Checkmk, Icinga, GitLab Runner, CFEngine, fwupd. Of Zabbix's agent the lines `Hostname=` go: without one it asks the system.",
	},
	{
		Name: "apt-lists", Default: true, Phase: SysprepFiles,
		Heading:     "Remove apt's lists of packages",
		Description: "Removes the regular files below `/var/lib/apt/lists` and `/var/cache/apt/*.bin`. `apt-get update` makes them anew.",
	},
	{
		Name: "backup-files", Default: true, Phase: SysprepFiles,
		Heading:     "Remove editors' backup files",
		Description: "Removes the regular files `*.bak` and `*~` below `/etc`, `/root`, `/srv`, `/tmp` and `/var`, through all file systems of the guest.",
	},
	{
		Name: "bash-history", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the history of bash",
		Description: "Removes `.bash_history` and `.bash_sessions` from `/root`, `/home/*` and every home that `/etc/passwd` names.",
		Difference:  "It knows `/home/*` and `/root` only.",
	},
	{
		Name: "blkid-tab", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the table of blkid",
		Description: "Removes `blkid.tab` and `blkid.tab.old` from `/var/run`, `/run/blkid`, `/etc/blkid` and `/etc`, and `/dev/.blkid.tab` and `.old`; links stay.",
	},
	{
		Name: "bluetooth", Default: true, Phase: SysprepFiles,
		Heading:     "Remove Bluetooth pairings",
		Description: "Empties `/var/lib/bluetooth`, where adapters and devices have the addresses of one machine.",
	},
	{
		Name: "ca-certificates", Phase: SysprepFiles,
		Heading:     "Remove certificates and private keys of certificate authorities",
		Description: "Removes `/etc/pki/CA/{certs,crl,newcerts}/*.crt`, `/etc/pki/CA/private/*.key`, `/etc/pki/tls/private/*.key` and `/etc/pki/tls/certs/*.crt` but `ca-bundle.crt` and `ca-bundle.trust.crt`. If something was removed, the guest's own `update-ca-trust extract` or `update-ca-certificates` runs at the end.",
	},
	{
		Name: "chef-client", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identity of Chef's client",
		Description: "Removes `client.pem`, `/var/chef/{cache,backup}` and the line `node_name` of `client.rb`, and the same of Cinc. The key of validation stays: a clone registers with it.",
	},
	{
		Name: "cloud-init", Default: true, Phase: SysprepFiles,
		Heading:     "Make cloud-init take the next boot for the first of a new machine",
		Description: "Empties `/var/lib/cloud`, removes `/var/log/cloud-init*.log*`, `/run/cloud-init`, and from `/etc/cloud/cloud.cfg.d` what installers wrote for the machine that they installed: `99-installer.cfg` (it has the hash of a password), `subiquity-disable-cloudinit-networking.cfg`, `curtin-*.cfg`, `50-curtin-networking.cfg`. Drop-ins of packages and images stay.",
	},
	{
		Name: "container-ids", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identities of container engines",
		Description: "Removes Docker's `engine-id`, `key.json` and swarm state, and the UUID of containerd. Images and containers stay.",
	},
	{
		Name: "crash-data", Default: true, Phase: SysprepFiles,
		Heading:     "Remove dumps of crashes",
		Description: "Empties `/var/crash`, `/var/log/dump`, `/var/lib/systemd/coredump` and `/var/lib/systemd/pstore`.",
		Difference:  "It does not know those of systemd, which hold memory like the others.",
	},
	{
		Name: "cron-spool", Default: true, Phase: SysprepFiles,
		Heading:     "Remove jobs of at and cron",
		Description: "Removes the regular files below `/var/spool/cron` and `/var/spool/at`, `/var/spool/atjobs/*` and `/var/spool/atspool/*`; the counters `.SEQ` begin anew.",
	},
	{
		Name: "dhcp-client-state", Default: true, Phase: SysprepFiles,
		Heading:     "Remove leases of DHCP clients",
		Description: "Empties `/var/lib/dhclient`, `/var/lib/dhcp`, `/var/lib/dhcpcd*`, `/run/systemd/netif/leases`, and removes `/var/lib/NetworkManager/*.lease` and `/etc/dhcpcd.{duid,secret}`.",
		Difference:  "It knows dhclient only. A DUID that clones share gives them one IPv6 address.",
	},
	{
		Name: "dhcp-server-state", Default: true, Phase: SysprepFiles,
		Heading:     "Remove leases of DHCP servers",
		Description: "Empties `/var/lib/dhcpd`; `dhcpd.leases` and `dhcpd6.leases` stay as empty files. Removes the leases of Kea and dnsmasq.",
		Difference:  "It removes `dhcpd.leases`, without which dhcpd does not start, and knows no other server.",
	},
	{
		Name: "dovecot-data", Default: true, Phase: SysprepFiles,
		Heading:     "Remove data of Dovecot",
		Description: "Removes the files in `/var/lib/dovecot`.",
	},
	{
		Name: "firewall-rules", Phase: SysprepFiles,
		Heading:     "Remove firewall rules",
		Description: "Removes `/etc/sysconfig/{iptables,ip6tables}`, `/etc/iptables/rules.v{4,6}`, and the files in `/etc/firewalld/{services,zones}`.",
		Difference:  "The rules for IPv6, and Debian's.",
	},
	{
		Name: "flag-reconfiguration", Phase: SysprepFiles,
		Heading:     "Ask for reconfiguration at the next boot",
		Description: "Makes the empty file `/.unconfigured`.",
	},
	{
		Name: "hostname", Phase: SysprepFiles,
		Heading:     "Remove the host name",
		Description: "Empties `/etc/hostname` and `/etc/HOSTNAME`, and takes away: the line `127.0.1.1` of `/etc/hosts`, `HOSTNAME=` of `/etc/sysconfig/network`, `hostname=` of `/etc/conf.d/hostname`, `PRETTY_HOSTNAME=` of `/etc/machine-info`. A clone has the name that DHCP or cloud-init gives it, else `localhost`.",
		Difference:  "A name of old releases, which set a host name; today `customize` does that.",
	},
	{
		Name: "installer-proxy", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the proxy that an installer left for packages",
		Description: "Takes `Acquire::…::Proxy` out of `/etc/apt/apt.conf`, where d-i writes it, and removes `90curtin-aptproxy` and `snap_proxy.conf`, where Ubuntu's does. The same address, or one that a kickstart or autoinstall file of the guest names, is taken out of `dnf.conf`, `yum.conf` and `/etc/environment`; other proxies stay there.",
	},
	{
		Name: "installer-leftovers", Default: true, Phase: SysprepFiles,
		Heading:     "Remove what installers leave behind",
		Description: "Empties `/var/log/{installer,anaconda,curtin}` and `/var/adm/autoinstall`, and removes answers and logs of d-i, Anaconda, AutoYaST, curtin and virt-builder from `/root`, `/` and `/tmp`.",
	},
	{
		Name: "ipa-client", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the enrolment in FreeIPA",
		Description: "Removes `/etc/ipa/{ca.crt,default.conf}`, the files in `/var/lib/ipa-client/{sysrestore,pki}`, and IPA's certificate from the stores of the system. If that was there, the guest's own `update-ca-trust extract` or `update-ca-certificates` runs at the end.",
	},
	{
		Name: "kerberos-data", Phase: SysprepFiles,
		Heading:     "Remove the data of a Kerberos server",
		Description: "Removes the files in `/var/kerberos/krb5kdc` but `kadm5.acl` and `kdc.conf`.",
	},
	{
		Name: "kerberos-hostkeytab", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the Kerberos key of the host",
		Description: "Removes `/etc/krb5.keytab`.",
	},
	{
		Name: "kubernetes", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identity of a Kubernetes node",
		Description: "Removes `/var/lib/kubelet/pki`, `/etc/kubernetes/{kubelet,bootstrap-kubelet}.conf`, `/etc/rancher/node`, and the certificates of agents of k3s and RKE2. What a control plane has in `/etc/kubernetes/pki` stays.",
	},
	{
		Name: "logfiles", Default: true, Phase: SysprepFiles,
		Heading:     "Remove log files",
		Description: "Removes logs in `/var/log` and of many programs, the journal, installers' logs in `/root`, `/var/cache/{fontconfig,gdm,man}`, logrotate's state, fingerprints, and users' records of AccountsService. `btmp`, `wtmp` and `lastlog` come back empty with their owner and mode.",
		Difference:  "Also logs whose name begins with a dot; AccountsService is spelt right; `btmp`, `wtmp` and `lastlog` stay, as their programs do not make them.",
	},
	{
		Name: "lvm-system-devices", Default: true, Phase: SysprepFiles,
		Heading:     "Remove LVM's list of devices",
		Description: "Removes `/etc/lvm/devices/system.devices` and the backups of it.",
		Difference:  "It leaves the backups.",
	},
	{
		Name: "machine-id", Default: true, Phase: SysprepFiles,
		Heading:     "Empty the machine-id",
		Description: "Empties `/etc/machine-id`, which systemd fills at a clone's first boot, or writes `uninitialized` if `machine_id` says so: systemd then takes that boot for the first and applies presets. Removes a copy in `/var/lib/dbus`; a link stays.",
		Difference:  "Its default run writes a random machine-id into the file that it emptied, so that all clones have the same.",
	},
	{
		Name: "mail-spool", Default: true, Phase: SysprepFiles,
		Heading:     "Remove local mail",
		Description: "Empties `/var/spool/mail` and `/var/mail`.",
		Difference:  "Names with a leading dot.",
	},
	{
		Name: "net-hostname", Default: true, Phase: SysprepFiles,
		Heading:     "Remove host names from network interfaces",
		Description: "Takes `HOSTNAME=` and `DHCP_HOSTNAME=` out of `/etc/sysconfig/network-scripts/ifcfg-*`, wherever there are such files.",
		Difference:  "It passes Rocky, Alma, Amazon and others by, whose names it does not know.",
	},
	{
		Name: "net-hwaddr", Default: true, Phase: SysprepFiles,
		Heading:     "Remove hardware addresses from network interfaces",
		Description: "Takes `HWADDR=` and `MACADDR=` out of `/etc/sysconfig/network-scripts/ifcfg-*`, and `hwaddress` out of `/etc/network/interfaces` and its drop-ins.",
		Difference:  "As with net-hostname; and an address that is set would be that of all clones.",
	},
	{
		Name: "net-nmconn", Default: true, Phase: SysprepFiles,
		Heading:     "Remove NetworkManager's connections",
		Description: "Removes the files in `/etc/NetworkManager/system-connections`, and those of netplan that stand for them (`/etc/netplan/90-NM-*.yaml`).",
		Difference:  "It does so on the Red Hat family only, and leaves files without `.nmconnection`.",
	},
	{
		Name: "netplan", Default: true, Phase: SysprepFiles,
		Heading:     "Remove netplan's files for the interfaces of one machine",
		Description: "Removes `50-cloud-init.yaml`, `00-installer-config*.yaml` from `/etc/netplan`, and `90-installer-network.cfg` from `/etc/cloud/cloud.cfg.d`, if they ask for a hardware address (`macaddress:`): no clone has it. One that fits any machine stays, as a clone without cloud-init's data would have no network.",
	},
	{
		Name: "network-manager-state", Default: true, Phase: SysprepFiles,
		Heading:     "Remove secrets and state of NetworkManager",
		Description: "Removes `secret_key`, `*.lease`, `seen-bssids`, `timestamps` and `no-auto-default.state` from `/var/lib/NetworkManager`.",
	},
	{
		Name: "pacct-log", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the log of process accounting",
		Description: "Removes `pacct*` in `/var/account` and `/var/log/account`; `pacct` comes back empty if it was there.",
		Difference:  "It asks for the name of the distribution.",
	},
	{
		Name: "package-manager-cache", Default: true, Phase: SysprepFiles,
		Heading:     "Remove caches of package managers",
		Description: "Removes the regular files below the caches of apt, dnf, dnf5, yum, zypper, PackageKit, pacman, apk and XBPS, whichever there are, and apt's binary caches.",
		Difference:  "It knows the first four, without dnf5, and asks which of them is the distribution's.",
	},
	{
		Name: "pam-data", Default: true, Phase: SysprepFiles,
		Heading:     "Remove run-time data of PAM",
		Description: "Removes the files in `/var/run/{console,faillock,sepermit}`.",
	},
	{
		Name: "passwd-backups", Default: true, Phase: SysprepFiles,
		Heading:     "Remove backups of the databases of accounts",
		Description: "Removes `/etc/{group,gshadow,passwd,shadow,subuid,subgid}-`.",
	},
	{
		Name: "puppet", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identity of Puppet's agent, version 4 and later",
		Description: "Removes the regular files below `ssl` of `/etc/puppetlabs/puppet` and `/etc/puppet`, `/opt/puppetlabs/puppet/cache`, `/var/log/puppetlabs`, `/var/lib/puppet`, `/var/cache/puppet`; `csr_attributes.yaml`; and the line `certname` of `puppet.conf`.",
	},
	{
		Name: "puppet-data-log", Default: true, Phase: SysprepFiles,
		Heading:     "Remove data and logs of Puppet",
		Description: "Removes the regular files below `/var/log/puppet` and `/var/lib/puppet`.",
		Difference:  "It looks two and three levels deep; private keys lie at the first and the fourth.",
	},
	{
		Name: "random-seed", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the stored random seed",
		Description: "Removes the seeds of systemd, of its boot loader, of seedrng and of System V scripts.",
		Difference:  "A name of old releases; `customize` of today writes a seed, the same for all clones. None is better than one that all share.",
	},
	{
		Name: "rh-subscription-manager", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the registration with Red Hat",
		Description: "Empties `/etc/pki/consumer`, `/etc/pki/entitlement`, and removes the files in `/var/lib/rhsm/{facts,cache}`.",
		Difference:  "The facts and the cache, which have the identity, too.",
	},
	{
		Name: "rhn-systemid", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identity in the Red Hat Network",
		Description: "Removes `/etc/sysconfig/rhn/{systemid,osad-auth.conf}`.",
	},
	{
		Name: "rpm-db", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the run-time files of RPM's database",
		Description: "Removes `__db.*` from `/var/lib/rpm` and `/usr/lib/sysimage/rpm`.",
		Difference:  "It does not know the second place, where the database is today.",
	},
	{
		Name: "salt-minion", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the identity of Salt's minion",
		Description: "Removes `minion.pem` and `minion.pub` from `/etc/salt/pki/minion`, `/etc/salt/minion_id`, and the regular files below `/var/cache/salt/minion` and `/var/log/salt`.",
	},
	{
		Name: "samba-db-log", Default: true, Phase: SysprepFiles,
		Heading:     "Remove databases and logs of Samba",
		Description: "Removes the regular files below `/var/log/samba` and `/var/lib/samba`.",
		Difference:  "It looks two levels deep; a domain controller's keys lie deeper.",
	},
	{
		Name: "script", Default: true, Phase: SysprepFiles,
		Heading:     "Run scripts",
		Description: "Runs `scripts` one after the other: by their shebang, or by `/bin/sh`, which ends at the first line that fails. One that fails makes the step fail.",
		Difference:  "It runs them on the host, with the guest's files in the working directory. Here they run **in the guest**: `/` is the guest's root, and the programs are the guest's, in an emulated machine without a network. Nothing of an image gets at the host so.",
	},
	{
		Name: "shell-histories", Default: true, Phase: SysprepFiles,
		Heading:     "Remove histories of other shells and programs",
		Description: "Removes, from `/root`, `/home/*` and every home that `/etc/passwd` names, the histories of fish, ksh, ash, csh, Python, IPython, Node, Ruby, PHP, R, gdb, MySQL, MariaDB, PostgreSQL, SQLite, Redis, MongoDB, less, vi, vim, nvim, nano, wget, lftp, and the traces `.sudo_as_admin_successful`, `.cache/motd.legal-displayed`, `recently-used.xbel`.",
	},
	{
		Name: "smolt-uuid", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the UUID of Smolt",
		Description: "Removes `/etc/sysconfig/hw-uuid`, `/etc/smolt/uuid`, `/etc/smolt/hw-uuid`.",
	},
	{
		Name: "snapd", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the device identity of snapd",
		Description: "Removes the device's keys and its serial assertions from `/var/lib/snapd`, and their names out of `state.json`. snapd registers anew; the snaps stay.",
	},
	{
		Name: "ssh-hostkeys", Default: true, Phase: SysprepFiles,
		Heading:     "Remove SSH's host keys",
		Description: "Removes `/etc/ssh/*_host_*` and the keys that `HostKey` of `sshd_config` names. They come back at a clone's first boot: where the distribution does not see to that itself, by a unit `herdbook-ssh-hostkeys.service`, or without systemd by a line in `/etc/default/ssh`.",
		Difference:  "On Debian and Ubuntu it leaves a machine whose sshd does not start.",
	},
	{
		Name: "ssh-userdir", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the directories .ssh",
		Description: "Removes `.ssh` from `/root`, `/home/*` and every home that `/etc/passwd` names. **Keys that a step `ssh_key` added are there**: with `operations = [\"defaults\", \"-ssh-userdir\"]` they stay.",
		Difference:  "It knows `/home/*` and `/root` only.",
	},
	{
		Name: "sssd-db-log", Default: true, Phase: SysprepFiles,
		Heading:     "Remove databases and logs of SSSD",
		Description: "Removes the files in `/var/log/sssd` and `/var/lib/sss/{db,mc,keytabs,secrets,gpo_cache}`.",
		Difference:  "It leaves the last four, which hold accounts, keys and secrets.",
	},
	{
		Name: "storage-ids", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the names of the machine in storage networks",
		Description: "Removes `/etc/nvme/{hostid,hostnqn}`, `/etc/multipath/wwids`, `/etc/hostid` (not where there is a pool of ZFS, which would not be imported), and `/etc/iscsi/initiatorname.iscsi`: Debian's asks for a new name, elsewhere `iscsi-init.service` makes one.",
	},
	{
		Name: "systemd-credential", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the secret of systemd's credentials",
		Description: "Removes `/var/lib/systemd/credential.secret`, the keys of `systemd-tpm2-setup` beside it, and what networkd keeps there. Credentials that were encrypted with the secret cannot be read by a clone.",
	},
	{
		Name: "tmp-files", Default: true, Phase: SysprepFiles,
		Heading:     "Remove temporary files",
		Description: "Empties `/tmp` and `/var/tmp`.",
	},
	{
		Name: "udev-persistent-net", Default: true, Phase: SysprepFiles,
		Heading:     "Remove udev's fixed names of network interfaces",
		Description: "Removes `/etc/udev/rules.d/70-persistent-net.rules`.",
	},
	{
		Name: "user-account", Phase: SysprepFiles,
		Heading:     "Remove accounts of people",
		Description: "Removes the accounts from `UID_MIN` to `UID_MAX` of `/etc/login.defs` (1000 to 60000 without it), or those of `remove_user_accounts`, never those of `keep_user_accounts`: their lines in `passwd`, `shadow`, `subuid`, `subgid`, their memberships in `group` and `gshadow`, their own group unless others are in it, home, mail and crontab. A home that belongs to somebody else, too, or to the system, stays.",
		Difference:  "It leaves `gshadow`, `subuid`, `subgid`, memberships and crontabs, and fails without `UID_MIN` and `UID_MAX`.",
	},
	{
		Name: "utmp", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the list of who is logged in",
		Description: "Removes `/var/run/utmp`.",
	},
	{
		Name: "yum-uuid", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the UUID of yum",
		Description: "Removes `/var/lib/yum/uuid`.",
	},
	{
		Name: "zsh-history", Default: true, Phase: SysprepFiles,
		Heading:     "Remove the history of zsh",
		Description: "Removes `.zsh_history`, `.zhistory` and `.zsh_sessions` from `/root`, `/home/*` and every home that `/etc/passwd` names.",
		Difference:  "It knows `.zsh_history` in `/home/*` and `/root` only.",
	},
	{
		Name: "customize", Default: true, Phase: SysprepFiles,
		Heading:     "Work on the whole guest at the end",
		Description: "Changes nothing: it is accepted so that lists of operations made for virt-sysprep mean what they meant.",
		Difference:  "It carries out virt-customize's options, and without any writes a machine-id and a random seed that all clones share. Here customising is steps before sysprep.",
	},
	{
		Name: "fs-uuids", Phase: SysprepDevice,
		Heading:     "Change the UUIDs of file systems",
		Description: "Gives every ext2, ext3, ext4, XFS, btrfs and FAT file system and every swap area, mounted or not, a new random UUID; those of LUKS and RAID stay. What finds them by it follows: fstab, crypttab, the files of GRUB, systemd-boot and extlinux, GRUB's cores for UEFI and BIOS, unified kernels that are not signed, settings of makers of initrds. If an initrd says an old UUID, or cannot be looked into, the guest's own `update-initramfs`, `dracut` or `mkinitcpio` makes all of them anew. UUIDs of ext, XFS and btrfs are changed by the guest's own `tune2fs`, `xfs_db` and `btrfstune`; a guest without them is refused. As the UUIDs are random, so is the layer: what is built twice has others.",
		Difference:  "It changes the UUIDs alone, and most images do not boot any more. It skips with a warning what it cannot change.",
	},
	{
		Name: "lvm-uuids", Default: true, Phase: SysprepDevice,
		Heading:     "Change the UUIDs of LVM's volumes",
		Description: "Gives every physical volume and volume group of LVM2 a new random UUID. LVM's own backups and lists, and GRUB's files, follow; if `/boot` lies on a logical volume, the guest's own `grub-install` makes GRUB's core for BIOS anew. A group of which a member is on another disk is refused.",
		Difference:  "GRUB finds `/boot` on a logical volume by these UUIDs, and there it does not follow.",
	},
}
