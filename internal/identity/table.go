package identity

import "regexp"

// kinds is everything that names a machine. What is not in it is not compared.
//
// Equal may be what a machine is not known by to others: UUIDs of file systems,
// volumes and partitions, by which it finds its own disk, and keys that somebody may
// have put on the image on purpose.
var kinds = []kind{
	{
		name: "machine-id", policy: own, // journald, D-Bus, DHCP and much else derive theirs from it
		probes:  []probe{{text, []string{"etc/machine-id", "var/lib/dbus/machine-id"}}},
		ignored: []string{"uninitialized"},
		wanted:  []string{"usr/lib/systemd/systemd", "lib/systemd/systemd"},
	}, {
		name: "ssh-hostkeys", policy: own,
		probes: []probe{{sshKey, []string{"etc/ssh/ssh_host_*_key.pub"}}, {namedHostKeys, []string{"etc/ssh/sshd_config", "etc/ssh/sshd_config.d/*.conf"}}, {privateKey, []string{"etc/ssh/ssh_host_*_key", "etc/dropbear/dropbear_*_host_key"}}},
		wanted: []string{"etc/systemd/system/*.wants/ssh.service", "etc/systemd/system/*.wants/sshd.service", "etc/systemd/system/*.wants/ssh.socket", "etc/systemd/system/*.wants/sshd.socket"},
	}, {
		// A booted system has written another; it began with that of the image.
		name: "random-seed", policy: absent,
		probes: []probe{{secret, []string{
			"var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/misc/random-seed", "var/lib/random-seed", "etc/random-seed",
			"var/lib/seedrng/seed.*", "boot/loader/random-seed", "efi/loader/random-seed", "boot/efi/loader/random-seed",
		}}},
	}, {
		name:   "systemd-credential",
		probes: []probe{{secret, []string{"var/lib/systemd/credential.secret"}}},
	}, {
		name: "hostname",
		probes: []probe{
			{text, []string{"etc/hostname", "etc/HOSTNAME", "proc/sys/kernel/hostname"}},
			{setting(`HOSTNAME`), []string{"etc/sysconfig/network"}},
		},
		ignored: placeholders,
	}, {
		// A clone that looks for the interface of another machine has no network; one
		// that takes its address is in the other's way.
		name: "mac-addresses", remedies: []string{"net-hwaddr", "net-nmconn", "netplan", "udev-persistent-net"},
		probes: []probe{
			{physicalAddress, []string{"sys/class/net/*/address"}},
			{macAddresses, []string{
				"etc/udev/rules.d/70-persistent-net.rules", "etc/sysconfig/network-scripts/ifcfg-*", "etc/sysconfig/network/ifcfg-*",
				"etc/systemd/network/*", "etc/netplan/*", "etc/NetworkManager/system-connections/*", "etc/network/interfaces", "etc/network/interfaces.d/*",
			}},
		},
		ignored: []string{"00:00:00:00:00:00"},
	}, {
		name: "dhcp-client-state", remedies: []string{"dhcp-client-state", "machine-id", "net-nmconn"}, // networkd derives its own from the machine-id
		probes: []probe{
			{setting(`CLIENTID`), []string{"run/systemd/netif/leases/*"}},
			{setting(`DUIDRawData`), []string{"etc/systemd/networkd.conf", "etc/systemd/networkd.conf.d/*.conf", "etc/systemd/network/*.network"}},
			{every(defaultDUID), []string{"var/lib/dhcp/*", "var/lib/dhcp3/*", "var/lib/dhclient/*"}},
			{every(sentIdentifier), []string{"etc/dhcp/dhclient.conf", "etc/dhclient.conf"}},
			{text, []string{"var/lib/dhcpcd/duid", "var/lib/dhcpcd5/duid", "var/db/dhcpcd/duid", "etc/dhcpcd.duid"}},
			{secret, []string{"var/lib/dhcpcd/secret", "var/lib/dhcpcd5/secret", "var/db/dhcpcd/secret", "etc/dhcpcd.secret"}},
			{setting(`(?:dhcp-client-id|dhcp-duid)`), []string{"etc/NetworkManager/system-connections/*"}},
			{setting(`DHCP_CLIENT_ID`), []string{"etc/sysconfig/network-scripts/ifcfg-*"}},
		},
		// Ways of NetworkManager to derive one.
		ignored: []string{"mac", "perm-mac", "duid", "ipv6-duid", "stable", "none", "lease", "ll", "llt", "stable-ll", "stable-llt", "stable-uuid"},
	}, {
		name:   "network-manager-state",
		probes: []probe{{secret, []string{"var/lib/NetworkManager/secret_key"}}},
	}, {
		name:    "cloud-init",
		probes:  []probe{{text, []string{"var/lib/cloud/data/instance-id"}}},
		ignored: []string{"iid-datasource-none", "NO_PREVIOUS_INSTANCE_ID"}, // there was nobody to give one
	}, {
		name: "puppet",
		probes: []probe{
			{setting(`certname`), []string{"etc/puppetlabs/puppet/puppet.conf", "etc/puppet/puppet.conf"}},
			{secret, []string{"etc/puppetlabs/puppet/ssl/private_keys/*.pem", "etc/puppet/ssl/private_keys/*.pem", "var/lib/puppet/ssl/private_keys/*.pem"}},
		},
	}, {
		name:   "salt-minion",
		probes: []probe{{text, []string{"etc/salt/minion_id"}}, {secret, []string{"etc/salt/pki/minion/minion.pem"}}},
	}, {
		name:   "chef-client",
		probes: []probe{{secret, []string{"etc/chef/client.pem", "etc/cinc/client.pem"}}, {every(chefNode), []string{"etc/chef/client.rb", "etc/cinc/client.rb"}}},
	}, {
		name:   "kerberos-hostkeytab",
		probes: []probe{{secret, []string{"etc/krb5.keytab"}}},
	}, {
		name:   "rh-subscription-manager",
		probes: []probe{{secret, []string{"etc/pki/consumer/key.pem"}}},
	}, {
		name:   "samba-db-log",
		probes: []probe{{secret, []string{"var/lib/samba/private/secrets.tdb", "var/lib/samba/secrets.tdb"}}},
	}, {
		name:   "sssd-db-log",
		probes: []probe{{secret, []string{"var/lib/sss/secrets/.secrets.mkey"}}},
	}, {
		name:   "snapd",
		probes: []probe{{nil, []string{"var/lib/snapd/assertions/asserts-v0/serial/*/*/*"}}, {secret, []string{"var/lib/snapd/device/private-keys-v1/*"}}},
	}, {
		name: "container-ids",
		probes: []probe{
			{text, []string{"var/lib/docker/engine-id", "var/lib/containerd/io.containerd.grpc.v1.introspection/uuid"}},
			{secret, []string{"etc/docker/key.json", "var/lib/docker/swarm/certificates/swarm-node.key"}},
		},
	}, {
		name: "kubernetes",
		probes: []probe{{secret, []string{
			"var/lib/kubelet/pki/*", "etc/kubernetes/kubelet.conf", "etc/rancher/node/password",
			"var/lib/rancher/k3s/agent/client-kubelet.key", "var/lib/rancher/rke2/agent/client-kubelet.key",
		}}},
	}, {
		name: "storage-ids",
		probes: []probe{
			{setting(`InitiatorName`), []string{"etc/iscsi/initiatorname.iscsi"}},
			{text, []string{"etc/nvme/hostnqn", "etc/nvme/hostid"}},
			{hexadecimal, []string{"etc/hostid"}},
		},
	}, {
		name: "agent-ids",
		probes: []probe{
			{text, []string{
				"var/lib/netdata/registry/netdata.public.unique.id", "opt/consul/node-id", "var/lib/consul/node-id", "opt/consul/data/node-id",
				"opt/nomad/client/client-id", "var/lib/nomad/client/client-id", "opt/nomad/data/client/client-id", "var/lib/teleport/host_uuid",
				"etc/insights-client/machine-id", "etc/instance_id", "etc/google_instance_id", "etc/gitlab-runner/.runner_system_id",
				"etc/openvswitch/system-id.conf", "var/lib/zerotier-one/identity.public",
			}},
			{secret, []string{
				"var/lib/tailscale/tailscaled.state", "var/lib/*beat/meta.json", "var/lib/amazon/ssm/registration", "var/lib/icinga2/certs/*.key",
				"var/ossec/etc/client.keys", "var/lib/ubuntu-advantage/private/machine-token.json", "var/lib/fwupd/pki/secret.key",
			}},
			{setting(`Hostname`), []string{"etc/zabbix/zabbix_agent*.conf", "etc/zabbix/zabbix_agent*.d/*.conf"}},
			{setting(`UUID`), []string{"var/lib/glusterd/glusterd.info"}},
		},
		ignored: append([]string{"Zabbix server"}, placeholders...),
	}, {
		name: "database-ids", remedies: []string{},
		probes: []probe{{setting(`server-uuid`), []string{"var/lib/mysql/auto.cnf"}}},
	}, {
		name: "survey-ids", remedies: []string{"smolt-uuid", "yum-uuid"},
		probes: []probe{
			{text, []string{"var/lib/yum/uuid", "etc/smolt/uuid", "etc/sysconfig/hw-uuid"}},
			{setting(`MY_HOSTID`), []string{"etc/popularity-contest.conf"}},
		},
	}, {
		name: "wireguard", remedies: []string{},
		probes: []probe{{hashed(setting(`PrivateKey`)), []string{"etc/wireguard/*.conf", "etc/systemd/network/*.netdev"}}},
	},
	{name: "fs-uuids", policy: equal, probes: []probe{{nil, []string{"dev/disk/by-uuid/*"}}}},
	{name: "lvm-uuids", policy: equal, probes: []probe{{nil, []string{"dev/disk/by-id/lvm-pv-uuid-*", "dev/disk/by-id/dm-uuid-LVM-*"}}}},
	{
		name: "partition-ids", policy: equal, remedies: []string{},
		probes: []probe{{nil, []string{"dev/disk/by-partuuid/*"}}, {setting(`E:ID_PART_TABLE_UUID`), []string{"run/udev/data/b*"}}},
	},
	{name: "raid-uuids", policy: equal, remedies: []string{}, probes: []probe{{nil, []string{"dev/disk/by-id/md-uuid-*"}}}},
	{name: "ssh-userdir", policy: equal, probes: []probe{{sshKey, []string{"root/.ssh/id_*.pub", "home/*/.ssh/id_*.pub"}}}},
	{
		name: "tls-keys", policy: equal, remedies: []string{}, // Debian's ssl-cert makes one that nobody trusts
		probes: []probe{{secret, []string{"etc/ssl/private/*.key", "etc/pki/tls/private/*.key"}}},
	},
}

// placeholders are host names of systems that nobody has named yet.
var placeholders = []string{
	"localhost", "localhost.localdomain", "localhost4", "localhost6", "(none)", "unassigned", "unknown", "linux", "host",
	"almalinux", "alpine", "amazonlinux", "archlinux", "centos", "debian", "fedora", "kali", "opensuse", "oraclelinux", "rhel", "rocky", "ubuntu",
}

var (
	// The first of a line that is no comment.
	macAddress = regexp.MustCompile(`(?m)^[^#\n]*?\b([0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5})\b`)
	hostKey    = regexp.MustCompile(`(?mi)^[ \t]*HostKey(?:[ \t]+|[ \t]*=[ \t]*)"?/([^"\s]+)`)
	chefNode   = regexp.MustCompile(`(?m)^[ \t]*node_name[ \t]+["']([^"'\n]+)`)
	// dhclient.leases(5), dhclient.conf(5). "= hardware" is no literal.
	defaultDUID    = regexp.MustCompile(`(?m)^\s*default-duid\s+(.*?);?\s*$`)
	sentIdentifier = regexp.MustCompile(`(?m)^\s*send\s+dhcp-client-identifier\s+([^=;\s][^;\n]*);`)
)
