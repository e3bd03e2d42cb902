package sysprep

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/guest"
	"herdbook/internal/guest/guesttest"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestMain(m *testing.M) { guesttest.Main(m) }

type node = guesttest.Node

// plain are files of which only the name matters, several to a line.
func plain(names string) []node {
	var nodes []node
	for name := range strings.FieldsSeq(names) {
		nodes = append(nodes, node{Path: name, Content: "x"})
	}
	return nodes
}

const (
	passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nnot a line\n" +
		"git:x:110:110::/srv/git:/bin/sh\nalice:x:1000:1000:Alice,,,:/home/alice:/bin/bash\nbob:x:1001:1001::/data/bob:/bin/zsh\n" +
		"web:x:1002:33::/var/www:/bin/sh\nnested:x:1003:1003::/home/alice/nested:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
	group = "root:x:0:\nadm:x:4:alice,daemon\nsudo:x:27:alice,bob\nwww-data:x:33:\nalice:x:1000:\nbob:x:1001:daemon\n" +
		"nested:x:1003:\nteam:x:2000:git\n"
	gshadow = "root:*::\nadm:*::alice,daemon\nsudo:*:alice:alice,bob\nalice:!::\nbob:!::daemon\nnested:!::\nteam:!:bob,git:git\n"
	shadow  = "root:*:19000:0:99999:7:::\nalice:$6$a$b:19000:0:99999:7:::\nbob:$6$c$d:19000:0:99999:7:::\nweb:!:19000::::::\n"

	snapdText = `{"data":{"auth":{"last-id":1,"users":[],"device":{"brand":"generic","model":"m","serial":"s-1","key-id":"k-1","session-macaroon":"m-1"}},` +
		`"big":12345678901234567890,"snaps":{"core":{"a":"<b>"}}},"changes":{}}`
	zpool = "/etc/zfs/zpool.cache"
	key   = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
)

// common is what both distributions have.
var common = slices.Concat([]node{
	{Path: "/bin", Link: "usr/bin"}, {Path: "/sbin", Link: "usr/sbin"}, {Path: "/lib", Link: "usr/lib"}, {Path: "/usr/bin/", Mode: 0o755}, {Path: "/usr/sbin/", Mode: 0o755},
	{Path: "/dev/", Mode: 0o755}, {Path: "/proc/", Mode: 0o555}, {Path: "/sys/", Mode: 0o555}, {Path: "/run/", Mode: 0o755}, {Path: "/var/run", Link: "/run"},
	{Path: "/usr/sbin/sshd", Mode: 0o755, Content: "ELF"}, {Path: "/usr/bin/ssh-keygen", Mode: 0o755, Content: "ELF"}, {Path: "/usr/lib/systemd/systemd", Mode: 0o755, Content: "ELF"},
	{Path: "/etc/passwd", Content: passwd}, {Path: "/etc/group", Content: group}, {Path: "/etc/shadow", Mode: 0o640, GID: 42, Content: shadow},
	{Path: "/etc/gshadow", Mode: 0o640, GID: 42, Content: gshadow}, {Path: "/etc/login.defs", Content: "# UID_MIN 7\nUID_MIN\t\t 1000\nUID_MAX 60000\nSYS_UID_MIN 100\n"},
	{Path: "/etc/subuid", Content: "alice:100000:65536\ngit:165536:65536\n1001:300000:65536\n"}, {Path: "/etc/subgid", Content: "alice:100000:65536\ngit:165536:65536\n"},
	{Path: "/etc/hostname", Content: "old\n"}, {Path: "/etc/hosts", Content: "127.0.0.1\tlocalhost\n127.0.1.1 old\n127.0.1.10 printer\n127.0.1.1\told.example.org\n"},
	{Path: "/etc/machine-info", Content: "PRETTY_HOSTNAME=\"Old\"\nCHASSIS=vm\n"},
	{Path: "/etc/machine-id", Mode: 0o444, Content: "0123456789abcdef0123456789abcdef\n"},
	{Path: "/root/", Mode: 0o700}, {Path: "/root/.bashrc", Content: "PS1=#\n"}, {Path: "/tmp/", Mode: 0o1777}, {Path: "/tmp/.X0-lock", Content: "x"}, {Path: "/tmp/out", Link: "/etc/passwd"},
	{Path: "/var/tmp/", Mode: 0o1777}, {Path: "/var/tmp/..odd", Content: "x"}, {Path: "/tmp/a\nb/c", Content: "x"}, {Path: "/var/log/new\nline.log", Content: "x"},
	{Path: "/home/alice/", Mode: 0o750, UID: 1000, GID: 1000}, {Path: "/home/alice/.ssh/", Mode: 0o700, UID: 1000, GID: 1000}, {Path: "/home/alice/odd\nname~", Content: "kept: /home is not looked at"},
	{Path: "/var/log/btmp", Mode: 0o660, GID: 43, Content: "bad logins"}, {Path: "/var/log/wtmp", Mode: 0o664, GID: 43, Content: "logins"}, {Path: "/var/log/lastlog", Mode: 0o664, GID: 43, Content: "last"},
	{Path: "/var/log/journal/", Mode: 0o2755, GID: 101}, {Path: "/etc/systemd/system/multi-user.target.wants/", Mode: 0o755},
	{Path: "/etc/chef/client.rb", Content: "chef_server_url 'https://chef'\nnode_name 'old'\nnode_named 'kept'\n"},
	{Path: "/etc/zabbix/zabbix_agentd.conf", Content: "Server=zabbix\nHostname=old\n# Hostname=\nHostnameItem=system.hostname\n"},
	{Path: "/etc/environment", Content: "LANG=C.UTF-8\nhttp_proxy=\"http://cache:3142/\"\nhttps_proxy=http://kept:8080\n"},
	{Path: "/var/spool/cron/atjobs/.SEQ", Mode: 0o600, UID: 1, GID: 1, Content: "0000f\n"}, {Path: "/var/spool/at/.SEQ", Mode: 0o600, UID: 1, GID: 1, Content: "00001\n"},
	{Path: "/var/lib/systemd/random-seed", Mode: 0o600, Content: "entropy"}, {Path: "/etc/ssh/ssh_host_ed25519_key", Mode: 0o600, Content: key},
},
	plain(`/etc/ssh/ssh_host_ed25519_key.pub /etc/ssh/ssh_host_rsa_key-cert.pub /etc/ssh/moduli /etc/ssh/ssh_config
/var/spool/abrt/ccpp-1/core /var/spool/abrt/.hidden /var/spool/abrtd
/etc/fstab.bak /etc/app/conf~ /etc/app/conf /root/notes.bak /srv/x~ /tmp/y.bak /var/lib/app/z~ /usr/share/kept.bak /home/alice/kept~
/root/.bash_history /home/alice/.bash_history /home/alice/.bash_logout /data/bob/.bash_history /srv/git/.bash_history /data/other/.bash_history
/root/.zsh_history /data/bob/.zsh_history /data/bob/.zshrc /home/alice/.zsh_sessions/1.history
/home/alice/.python_history /home/alice/.lesshst /home/alice/.viminfo /home/alice/.vimrc /data/bob/.mysql_history /root/.psql_history /root/.psqlrc
/home/alice/.local/share/fish/fish_history /home/alice/.local/share/fish/config /home/alice/.local/state/nvim/shada/main.shada /home/alice/.sudo_as_admin_successful
/home/alice/.ssh/authorized_keys /root/.ssh/id_ed25519 /data/bob/.ssh/known_hosts /srv/git/.ssh/authorized_keys /data/other/.ssh/authorized_keys
/run/blkid/blkid.tab /etc/blkid.tab.old /etc/blkid.conf /dev/.blkid.tab
/var/lib/bluetooth/00:11/info /var/lib/bluetooth/settings
/var/crash/linux-1 /var/crash/.lock /var/log/dump/d /var/lib/systemd/coredump/core.sh.zst /var/lib/systemd/pstore/1/dmesg /var/lib/systemd/timers/stamp-x
/var/spool/cron/atjobs/a00001 /var/spool/cron/atspool/a /var/spool/at/a00002 /var/spool/atjobs/a3 /etc/cron.d/kept
/var/lib/dhclient/dhclient.leases /var/lib/dhcp/dhclient6.leases /var/lib/dhcpcd/duid /var/lib/dhcpcd/secret /var/lib/NetworkManager/internal-1-ens3.lease
/var/lib/NetworkManager/secret_key /var/lib/NetworkManager/seen-bssids /var/lib/NetworkManager/timestamps /var/lib/NetworkManager/no-auto-default.state
/var/lib/NetworkManager/NetworkManager.state /var/lib/NetworkManager/NetworkManager-intern.conf
/var/lib/dhcpd/dhcpd.leases /var/lib/dhcpd/dhcpd.leases~ /var/lib/kea/kea-leases4.csv /var/lib/kea/kea-leases4.csv.2 /var/lib/kea/kept /var/lib/misc/dnsmasq.leases
/var/lib/dovecot/instances /var/lib/dovecot/dir/kept /etc/dovecot/dovecot.conf
/etc/sysconfig/iptables /etc/sysconfig/iptables-config /etc/iptables/rules.v4 /etc/firewalld/zones/site.xml /etc/firewalld/firewalld.conf /etc/nftables.conf
/etc/ipa/ca.crt /etc/ipa/default.conf /etc/ipa/kept /var/lib/ipa-client/sysrestore/index /var/lib/ipa-client/pki/key
/var/kerberos/krb5kdc/principal /var/kerberos/krb5kdc/.k5.EXAMPLE /var/kerberos/krb5kdc/kdc.conf /var/kerberos/krb5kdc/kadm5.acl /etc/krb5.keytab /etc/krb5.conf
/var/lib/kubelet/pki/kubelet.key /var/lib/kubelet/config.yaml /etc/kubernetes/kubelet.conf /etc/kubernetes/pki/ca.key /etc/rancher/node/password
/var/lib/rancher/k3s/agent/client-kubelet.key /var/lib/rancher/k3s/agent/images/kept
/var/lib/docker/engine-id /etc/docker/key.json /etc/docker/daemon.json /var/lib/docker/overlay2/kept /var/lib/docker/swarm/certificates/swarm-node.key
/var/lib/containerd/io.containerd.grpc.v1.introspection/uuid /var/lib/containerd/io.containerd.content.v1.content/kept
/etc/chef/client.pem /etc/chef/validation.pem /var/chef/cache/x /var/chef/kept
/etc/salt/pki/minion/minion.pem /etc/salt/pki/minion/minion.pub /etc/salt/pki/minion/minion_master.pub /etc/salt/minion_id /etc/salt/minion /var/cache/salt/minion/x/y /var/log/salt/minion
/var/lib/tailscale/tailscaled.state /var/lib/zerotier-one/identity.secret /var/lib/filebeat/meta.json /var/lib/filebeat/registry/kept /opt/consul/data/node-id /etc/insights-client/machine-id /etc/insights-client/insights-client.conf
/etc/lvm/devices/system.devices /etc/lvm/devices/backup/system.devices-1 /etc/lvm/lvm.conf
/var/spool/mail/alice /var/mail/.hidden /var/spool/postfix/kept
/var/account/pacct /var/account/pacct-1.gz /var/account/kept
/run/faillock/alice /run/console/x /run/other/kept /run/utmp
/etc/passwd- /etc/shadow- /etc/subgid- /etc/passwd.kept
/etc/puppetlabs/puppet/ssl/private_keys/old.pem /etc/puppetlabs/puppet/csr_attributes.yaml /etc/puppetlabs/puppet/hiera.yaml
/opt/puppetlabs/puppet/cache/state/last /opt/puppetlabs/puppet/bin/kept /var/log/puppetlabs/puppet/agent /var/log/puppet/agent
/var/lib/puppet/top /var/lib/puppet/ssl/private_keys/deep/old.pem /var/cache/puppet/x
/var/lib/seedrng/seed.credit /var/lib/seedrng/kept /boot/efi/loader/random-seed /boot/efi/loader/loader.conf
/var/log/samba/old/x /var/lib/samba/private/tls/key.pem /var/lib/samba/secrets.tdb /etc/samba/smb.conf
/etc/smolt/uuid /etc/smolt/kept /var/log/sssd/sssd.log /var/lib/sss/db/cache.ldb /var/lib/sss/secrets/.secrets.mkey /var/lib/sss/pubconf/kept
/etc/nvme/hostid /etc/nvme/hostnqn /etc/nvme/discovery.conf /etc/hostid /etc/multipath/wwids /etc/multipath/bindings /etc/iscsi/initiatorname.iscsi /etc/iscsi/iscsid.conf
/var/lib/systemd/credential.secret /var/lib/systemd/tpm2-srk-public-key.pem /var/lib/systemd/network/ens3 /var/lib/systemd/linger/alice
/etc/udev/rules.d/70-persistent-net.rules /etc/udev/rules.d/70-kept.rules
/var/log/syslog /var/log/syslog.1 /var/log/app.log.2.gz /var/log/.hidden.log /var/log/kept /var/log/journal/0123/system.journal /var/log/audit/audit.log
/var/log/installer/cdebconf/questions.dat /var/log/anaconda/syslog /var/log/libvirt/qemu/vm.log /var/log/libvirt/qemu/kept /var/log/apache2/access_log /var/log/apache2/README
/var/lib/AccountsService/users/alice /var/lib/AccountsService/icons/alice /var/lib/logrotate/status /etc/Pegasus/server.pem /etc/Pegasus/kept.conf /var/cache/man/index.db /var/cache/kept/x
/root/install.log /root/anaconda-post.log /root/curtin-install-cfg.yaml /tmp/builder.log /var/adm/autoinstall/cache/config.xml
/etc/NetworkManager/system-connections/ens3.nmconnection /etc/NetworkManager/system-connections/old-style /etc/NetworkManager/NetworkManager.conf
/var/lib/cloud/instance/user-data.txt /var/lib/cloud/.hidden /var/log/cloud-init.log /var/log/cloud-init-output.log /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/05_logging.cfg
/home/alice/nested/x /var/www/index.html /data/bob/file`))

// debian is a tree in the manner of Debian and Ubuntu.
var debian = slices.Concat(common, []node{
	{Path: "/etc/os-release", Content: "ID=debian\n"}, {Path: "/var/lib/dbus/machine-id", Link: "/etc/machine-id"},
	{Path: "/etc/ssh/sshd_config", Content: "Include /etc/ssh/sshd_config.d/*.conf\n#HostKey /etc/ssh/commented\nHostKey /etc/ssh/ssh_host_ed25519_key\n"},
	{Path: "/etc/ssh/sshd_config.d/site.conf", Content: "hostkey = \"/etc/ssh/keys/site_ecdsa\"\nHostKey /etc/passwd\n"},
	{Path: "/etc/ssh/keys/site_ecdsa", Mode: 0o600, Content: key},
	{Path: "/usr/lib/systemd/system/ssh.service", Content: "[Service]\nExecStart=/usr/sbin/sshd -D\n"},
	{Path: "/etc/network/interfaces", Content: "auto eth0\niface eth0 inet dhcp\n\thwaddress ether 00:11:22:33:44:55\n"},
	{Path: "/etc/apt/apt.conf", Content: "Acquire::http::Proxy \"http://cache:3142/\";\n"},
	{Path: "/etc/apt/apt.conf.d/90curtin-aptproxy", Content: "Acquire::http::Proxy \"http://other:3142\";\n"},
	{Path: "/etc/apt/apt.conf.d/kept", Content: "Acquire::http::Proxy \"http://site:3142\";\n"},
	{Path: "/etc/netplan/50-cloud-init.yaml", Mode: 0o600, Content: "network:\n  ethernets:\n    ens3:\n      match:\n        macaddress: \"00:11:22:33:44:55\"\n"},
	{Path: "/etc/netplan/00-installer-config.yaml", Content: "network:\n  ethernets:\n    ens3: {dhcp4: true}\n"},
	{Path: "/etc/netplan/01-site.yaml", Content: "network: {ethernets: {a: {match: {macaddress: \"kept\"}}}}\n"},
	{Path: "/var/lib/snapd/state.json", Mode: 0o600, Content: snapdText}, {Path: "/etc/puppet/puppet.conf", Content: "[main]\nserver=puppet\n"},
	{Path: "/var/cache/apt/archives/partial/", Mode: 0o700, UID: 42},
}, plain(`/etc/ssh/keys/site_ecdsa.pub /etc/ssh/keys/kept
/usr/lib/open-iscsi/startup-checks.sh /var/spool/cron/crontabs/alice /var/spool/cron/crontabs/root
/var/cache/apt/archives/curl_1_amd64.deb /var/cache/apt/archives/lock /var/cache/apt/pkgcache.bin /var/cache/apt/kept
/var/lib/apt/lists/deb.debian.org_dists_Packages /var/lib/apt/extended_states /etc/netplan/90-NM-1.yaml
/etc/cloud/cloud.cfg.d/99-installer.cfg /etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg /etc/cloud/cloud.cfg.d/curtin-preserve-sources.cfg
/etc/cloud/cloud.cfg.d/90_dpkg.cfg /etc/systemd/system/snapd.service.d/snap_proxy.conf
/var/lib/snapd/device/private-keys-v1/k /var/lib/snapd/assertions/asserts-v0/serial/generic/m/s-1/active /var/lib/snapd/assertions/asserts-v0/model/16/generic/kept /var/lib/snapd/snaps/kept.snap
/usr/local/share/ca-certificates/ipa-ca.crt /usr/local/share/ca-certificates/kept.crt /usr/sbin/update-ca-certificates`))

// rocky is a tree in the manner of the Red Hat family; virt-sysprep does not know
// that this one belongs to it.
var rocky = slices.Concat(common, []node{
	{Path: "/etc/os-release", Content: "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"}, {Path: "/var/lib/dbus/machine-id", Content: "0123456789abcdef0123456789abcdef\n"},
	{Path: "/etc/ssh/sshd_config", Content: "Port 22\n"}, {Path: "/usr/lib/systemd/system/sshd.service", Content: "[Unit]\nWants=sshd-keygen.target\n"},
	{Path: "/usr/lib/systemd/system/sshd-keygen.target", Content: "[Unit]\n"}, {Path: "/usr/lib/systemd/system/sshd-keygen@.service", Content: "[Unit]\n"},
	{Path: "/etc/sysconfig/network-scripts/ifcfg-ens3", Content: "DEVICE=ens3\nHWADDR=00:11:22:33:44:55\n MACADDR=00:11:22:33:44:56\nDHCP_HOSTNAME=old\nHOSTNAME=old\nMYHOSTNAME=kept\nBOOTPROTO=dhcp"},
	{Path: "/etc/sysconfig/network", Content: "NETWORKING=yes\nHOSTNAME=old\n"}, {Path: "/etc/pki/tls/certs/ca-bundle.crt", Link: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
	{Path: "/etc/puppetlabs/puppet/puppet.conf", Content: "[main]\n  certname = old\ncertname_file = kept\n# certname = kept\nserver = puppet\n"},
	{Path: "/root/anaconda-ks.cfg", Content: "url --url=http://mirror/ --proxy=http://cache:3142\n"},
	{Path: "/etc/dnf/dnf.conf", Content: "[main]\nproxy=http://cache:3142/\nproxy_username=kept\n"}, {Path: "/etc/yum.conf", Link: "dnf/dnf.conf"},
}, plain(`/etc/pki/tls/certs/site.crt /etc/pki/tls/private/site.key /etc/pki/CA/private/cakey.key /etc/pki/CA/certs/a.crt /etc/pki/CA/index.txt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
/etc/pki/ca-trust/source/anchors/ipa-ca.crt /etc/pki/ca-trust/source/anchors/kept.crt /usr/bin/update-ca-trust /var/spool/cron/alice /var/spool/cron/root
/etc/pki/consumer/cert.pem /etc/pki/consumer/key.pem /etc/pki/entitlement/1.pem /etc/pki/product/kept.pem /var/lib/rhsm/facts/facts.json /etc/rhsm/rhsm.conf /etc/sysconfig/rhn/systemid /etc/sysconfig/rhn/kept
/usr/lib/systemd/system/iscsi-init.service /var/lib/rpm/__db.001 /usr/lib/sysimage/rpm/__db.002 /usr/lib/sysimage/rpm/rpmdb.sqlite /var/lib/yum/uuid /var/lib/yum/kept
/var/cache/dnf/base-1/repodata/x /var/cache/libdnf5/base/x /var/cache/yum/x /etc/zfs/zpool.cache`))

var fixtures = []struct {
	name  string
	nodes []node
}{{"debian", debian}, {"rocky", rocky}}

// guestTest is a guest on a fixture, with what was heard of it and what it was asked
// to run.
type guestTest struct {
	*guest.Guest
	dir      string
	mu       sync.Mutex
	events   []event.Event
	commands []string
	status   int // of every command
}

func newGuest(t testing.TB, nodes []node) *guestTest {
	t.Helper()
	g := &guestTest{dir: guesttest.Sandbox(t)}
	guesttest.Plant(t, g.dir, nodes)
	root, err := guest.OpenRoot(g.dir)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, root.Close()) })
	g.Guest = &guest.Guest{Root: root, Sink: g.hear, Runner: g}
	return g
}

// Run implements guest.Runner: it notes what it was asked for.
func (g *guestTest) Run(_ context.Context, c guest.Command) (int, error) {
	g.commands = append(g.commands, strings.Join(c.Args, " "))
	return g.status, nil
}

func (g *guestTest) hear(e event.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
}

// texts are those of the events of a kind.
func (g *guestTest) texts(kind event.Kind) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var texts []string
	for _, e := range g.events {
		if e.Kind == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// changes carries a sysprep out and returns what it did to the tree.
func (g *guestTest) changes(t testing.TB, o *op.Sysprep) (string, error) {
	t.Helper()
	if problems := o.Check(); len(problems) > 0 {
		t.Fatalf("the test's own operation has problems: %v", problems)
	}
	return guesttest.Changes(t, g.dir, func() error { return Apply(t.Context(), g.Guest, o) })
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	peer.Golden(t, filepath.Join("diff", name+".golden"), []byte(got))
}
