package identity

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

// tree makes a file system of contents by their paths.
func tree(files map[string]string) fstest.MapFS {
	t := fstest.MapFS{}
	for name, content := range files {
		t[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return t
}

// facts gathers the facts of one name as VALUE@PATH.
func facts(t fs.FS, name string) []string {
	var list []string
	for _, f := range Gather(t) {
		if f.Name == name {
			list = append(list, f.Value+"@"+f.Where)
		}
	}
	return list
}

func TestGather(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	empty := fingerprint([]byte("x"))
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"machine-id", map[string]string{"etc/machine-id": id + "\n", "var/lib/dbus/machine-id": id}, []string{id + "@/etc/machine-id", id + "@/var/lib/dbus/machine-id"}},
		{"machine-id", map[string]string{"etc/machine-id": "uninitialized\n"}, nil},
		{"machine-id", map[string]string{"etc/machine-id": "", "usr/lib/systemd/systemd": "x"}, []string{"@/usr/lib/systemd/systemd"}},
		{"ssh-hostkeys", map[string]string{"usr/sbin/sshd": "x"}, nil}, // nobody starts it
		{"ssh-hostkeys", map[string]string{"etc/systemd/system/multi-user.target.wants/ssh.service": "x"}, []string{"@/etc/systemd/system/multi-user.target.wants/ssh.service"}},
		{"ssh-hostkeys", map[string]string{"etc/ssh/ssh_host_rsa_key": "x"}, []string{empty + "@/etc/ssh/ssh_host_rsa_key"}},
		{"ssh-hostkeys", map[string]string{"etc/ssh/ssh_host_rsa_key.pub": "no key\n\n#\nssh-rsa !!! x\n"}, nil},
		{"ssh-hostkeys", map[string]string{
			"etc/ssh/sshd_config": "#HostKey /etc/ssh/no\nHostKey /etc/ssh/ssh_host_rsa_key\nhostkey = \"/etc/ssh/keys/site\"\nHostKey /../..\nHostKey /etc/absent\n", "etc/ssh/keys/site.pub": "ssh-ed25519 eA== root@a\n",
		}, []string{"SHA256:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE@/etc/ssh/sshd_config"}},
		{"random-seed", map[string]string{"var/lib/systemd/random-seed": "x", "boot/efi/loader/random-seed": ""}, []string{empty + "@/var/lib/systemd/random-seed"}},
		{"systemd-credential", map[string]string{"var/lib/systemd/credential.secret": "x"}, []string{empty + "@/var/lib/systemd/credential.secret"}},
		{"hostname", map[string]string{"etc/hostname": "web1\n", "proc/sys/kernel/hostname": "web1\n", "etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=\"web2\"\n"},
			[]string{"web1@/etc/hostname", "web1@/proc/sys/kernel/hostname", "web2@/etc/sysconfig/network"}},
		{"hostname", map[string]string{"etc/hostname": "Localhost.localdomain\n", "proc/sys/kernel/hostname": "debian"}, nil},
		{"mac-addresses", map[string]string{
			"sys/class/net/eth0/address": "52:54:00:00:00:01\n", "sys/class/net/eth0/device/vendor": "x", "sys/class/net/docker0/address": "02:42:00:00:00:01\n",
			"etc/udev/rules.d/70-persistent-net.rules":    "# 00:11:22:33:44:55\nSUBSYSTEM==\"net\", ATTR{address}==\"AA:BB:CC:DD:EE:FF\", NAME=\"eth0\"\n",
			"etc/sysconfig/network-scripts/ifcfg-eth0":    "DEVICE=eth0\nHWADDR=52-54-00-AA-00-01\n",
			"etc/NetworkManager/system-connections/a.nmc": "[ethernet]\ncloned-mac-address=random\n",
		}, []string{"52:54:00:00:00:01@/sys/class/net/eth0/address", "aa:bb:cc:dd:ee:ff@/etc/udev/rules.d/70-persistent-net.rules", "52:54:00:aa:00:01@/etc/sysconfig/network-scripts/ifcfg-eth0"}},
		{"dhcp-client-state", map[string]string{
			"run/systemd/netif/leases/2":                "# private\nADDRESS=10.0.2.15\nCLIENTID=ffb6220feb00020000ab11\n",
			"var/lib/dhcp/dhclient.leases":              "default-duid \"\\000\\001\\000\\001*\";\nlease {\n  fixed-address 10.0.2.15;\n}\n",
			"etc/dhcp/dhclient.conf":                    "send host-name = gethostname();\nsend dhcp-client-identifier = hardware;\n  send dhcp-client-identifier \"cow\";\n",
			"var/lib/dhcpcd/duid":                       "00:04:aa\n",
			"var/lib/dhcpcd/secret":                     "x",
			"etc/NetworkManager/system-connections/lan": "[ipv4]\ndhcp-client-id=mac\n[ipv6]\ndhcp-duid=00:03\n",
			"etc/systemd/networkd.conf":                 "[DHCPv4]\n#DUIDRawData=00\nDUIDRawData=01:02\n",
		}, []string{
			"ffb6220feb00020000ab11@/run/systemd/netif/leases/2", "01:02@/etc/systemd/networkd.conf", `"\000\001\000\001*"@/var/lib/dhcp/dhclient.leases`, `"cow"@/etc/dhcp/dhclient.conf`,
			"00:04:aa@/var/lib/dhcpcd/duid", empty + "@/var/lib/dhcpcd/secret", "00:03@/etc/NetworkManager/system-connections/lan",
		}},
		{"cloud-init", map[string]string{"var/lib/cloud/data/instance-id": "iid-datasource-none\n"}, nil},
		{"cloud-init", map[string]string{"var/lib/cloud/data/instance-id": "i-1\n"}, []string{"i-1@/var/lib/cloud/data/instance-id"}},
		{"puppet", map[string]string{"etc/puppetlabs/puppet/puppet.conf": "[main]\n  certname = cow.example.org\n", "etc/puppetlabs/puppet/ssl/private_keys/cow.pem": "x"},
			[]string{"cow.example.org@/etc/puppetlabs/puppet/puppet.conf", empty + "@/etc/puppetlabs/puppet/ssl/private_keys/cow.pem"}},
		{"chef-client", map[string]string{"etc/chef/client.rb": "chef_server_url 'https://chef'\nnode_name 'cow'\n"}, []string{"cow@/etc/chef/client.rb"}},
		{"snapd", map[string]string{"var/lib/snapd/assertions/asserts-v0/serial/generic/generic-classic/1234-5678/active": "x"},
			[]string{"1234-5678@/var/lib/snapd/assertions/asserts-v0/serial/generic/generic-classic/1234-5678"}},
		{"storage-ids", map[string]string{"etc/iscsi/initiatorname.iscsi": "## a comment\nInitiatorName=iqn.1993-08.org.debian:01:abc\n", "etc/hostid": "\x01\x02\x03\xff"},
			[]string{"iqn.1993-08.org.debian:01:abc@/etc/iscsi/initiatorname.iscsi", "010203ff@/etc/hostid"}},
		{"storage-ids", map[string]string{"etc/iscsi/initiatorname.iscsi": "GenerateName=yes\n"}, nil},
		{"agent-ids", map[string]string{"etc/zabbix/zabbix_agentd.conf": "Server=127.0.0.1\n# Hostname=a\nHostname=Zabbix server\nHostnameItem=system.hostname\n"}, nil},
		{"agent-ids", map[string]string{"etc/zabbix/zabbix_agent2.conf": "Hostname=cow\n"}, []string{"cow@/etc/zabbix/zabbix_agent2.conf"}},
		{"wireguard", map[string]string{"etc/wireguard/wg0.conf": "[Interface]\nPrivateKey = x\n"}, []string{empty + "@/etc/wireguard/wg0.conf"}},
		{"fs-uuids", map[string]string{"dev/disk/by-uuid/11-22": ""}, []string{"11-22@/dev/disk/by-uuid/11-22"}},
		{"partition-ids", map[string]string{"dev/disk/by-partuuid/aa-01": "", "run/udev/data/b254:0": "S:disk\nE:ID_PART_TABLE_UUID=aa\n"}, []string{"aa-01@/dev/disk/by-partuuid/aa-01", "aa@/run/udev/data/b254:0"}},
	} {
		if diff := cmp.Diff(c.want, facts(tree(c.files), c.name)); diff != "" {
			t.Errorf("%s of %v (-want +got):\n%s", c.name, c.files, diff)
		}
	}
}

// Every probe finds what it is meant to find: a path of its pattern, with content
// for its reader.
func TestEveryProbeCanFindSomething(t *testing.T) {
	for _, k := range kinds {
		for i, p := range k.probes {
			for _, pattern := range p.patterns {
				if _, err := path.Match(pattern, ""); err != nil || !fs.ValidPath(pattern) {
					t.Errorf("%s: %q is no pattern of a tree: %v", k.name, pattern, err)
				}
				name := strings.ReplaceAll(pattern, "*", "x")
				if got := glob(tree(map[string]string{name: ""}), []string{pattern}); !slices.Contains(got, name) {
					t.Errorf("%s: probe %d does not find %s", k.name, i, name)
				}
			}
		}
		if (k.policy == own) != (len(k.wanted) > 0) {
			t.Errorf("%s: who must have one is not told", k.name)
		}
	}
}

func TestFingerprintsAreThoseOfSSHKeygen(t *testing.T) {
	peer.NeedTool(t, "ssh-keygen")
	dir := t.TempDir()
	peer.Must(t, os.MkdirAll(filepath.Join(dir, "etc/ssh"), 0o755))
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		key := filepath.Join(dir, "etc/ssh/ssh_host_"+kind+"_key")
		peer.Run(t, "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key)
		want := strings.Fields(peer.Run(t, "ssh-keygen", "-lf", key+".pub"))[1]
		if got := facts(os.DirFS(dir), "ssh-hostkeys"); !slices.Contains(got, want+"@/etc/ssh/ssh_host_"+kind+"_key.pub") {
			t.Errorf("%s: %q is not among %q", kind, want, got)
		}
	}
}

// What is no file of a few bytes neither stops the gatherer nor fills its memory.
func TestGatherIsBounded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"etc", "var/lib/systemd", "etc/wireguard", "etc/nvme"} {
		peer.Must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	peer.Must(t, syscall.Mkfifo(filepath.Join(dir, "etc/machine-id"), 0o644)) // a reader of it would wait for ever
	peer.Must(t, os.WriteFile(filepath.Join(dir, "etc/hostname"), []byte(strings.Repeat("ä", 1<<16)), 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "etc/nvme/hostnqn"), []byte("a\x1b[31m\nb\xff"), 0o644))
	peer.Must(t, os.Truncate(create(t, filepath.Join(dir, "var/lib/systemd/random-seed")), 1<<40))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "etc/wireguard/a.conf"), []byte(strings.Repeat("PrivateKey=x\nPrivateKey=y\n", 1<<15)), 0o644))
	got := Gather(os.DirFS(dir))
	if len(got) != 5 {
		t.Errorf("%d facts: %v", len(got), got)
	}
	for _, f := range got {
		if len(f.Value) > maxValue+4 || !utf8.ValidString(f.Value) || strings.ContainsAny(f.Value, "\n\x1b") {
			t.Errorf("%q", f)
		}
	}
}

func create(t *testing.T, name string) string {
	t.Helper()
	peer.Must(t, os.WriteFile(name, nil, 0o644))
	return name
}

func TestCompare(t *testing.T) {
	fact := func(name, value string) Fact { return Fact{name, value, "/" + name} }
	list := func(f ...Fact) []Fact { return f }
	for name, c := range map[string]struct {
		quiet, a, b    []Fact
		allow, require []string
		want           []string // the names of the defects
	}{
		"nothing":           {},
		"each its own":      {a: list(fact("machine-id", "1"), fact("puppet", "x")), b: list(fact("machine-id", "2"))},
		"shared":            {a: list(fact("machine-id", "1"), fact("hostname", "h")), b: list(fact("hostname", "h"), fact("machine-id", "1")), want: []string{"machine-id", "hostname"}},
		"one of several":    {a: list(fact("ssh-hostkeys", "1"), fact("ssh-hostkeys", "2")), b: list(fact("ssh-hostkeys", "3"), fact("ssh-hostkeys", "2")), want: []string{"ssh-hostkeys"}},
		"another's value":   {a: list(fact("puppet", "x")), b: list(fact("salt-minion", "x"))},
		"missing in one":    {a: list(fact("ssh-hostkeys", "")), b: list(fact("ssh-hostkeys", "1")), want: []string{"ssh-hostkeys"}},
		"missing in both":   {a: list(fact("ssh-hostkeys", "")), b: list(fact("ssh-hostkeys", "")), want: []string{"ssh-hostkeys"}},
		"missing on image":  {quiet: list(fact("machine-id", ""))},
		"a seed":            {quiet: list(fact("random-seed", "1")), a: list(fact("random-seed", "2")), b: list(fact("random-seed", "3")), want: []string{"random-seed"}},
		"a seed of its own": {a: list(fact("random-seed", "2")), b: list(fact("random-seed", "3"))},
		"an image's id":     {quiet: list(fact("machine-id", "1")), a: list(fact("machine-id", "2")), b: list(fact("machine-id", "3"))},
		"allowed":           {quiet: list(fact("random-seed", "1")), a: list(fact("hostname", "h"), fact("ssh-hostkeys", "")), b: list(fact("hostname", "h")), allow: []string{"hostname", "random-seed", "ssh-hostkeys"}},
		"may be equal":      {a: list(fact("fs-uuids", "1")), b: list(fact("fs-uuids", "1"))},
		"required":          {a: list(fact("fs-uuids", "1")), b: list(fact("fs-uuids", "1")), require: []string{"fs-uuids", "machine-id"}, want: []string{"fs-uuids"}},
		"unknown":           {a: list(fact("no-such-name", "1")), b: list(fact("no-such-name", "1"))},
	} {
		var got []string
		for _, d := range Compare(c.quiet, c.a, c.b, c.allow, c.require) {
			got = append(got, d.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestADefectSaysWhatToDo(t *testing.T) {
	both := []Fact{
		{"machine-id", "1", "/etc/machine-id"}, {"machine-id", "1", "/var/lib/dbus/machine-id"}, {"ssh-hostkeys", "", "/etc/systemd/system/multi-user.target.wants/ssh.service"},
		{"mac-addresses", "m", "/etc/netplan/a"}, {"database-ids", "d", "/var/lib/mysql/auto.cnf"}, {"random-seed", "r", "/etc/random-seed"},
	}
	var text strings.Builder
	for _, d := range Compare(both, both, both, nil, nil) {
		text.WriteString(d.String() + "\n")
	}
	peer.Golden(t, "defects", []byte(text.String()))
}

func TestRules(t *testing.T) {
	rules := Rules()
	for _, want := range []string{"machine-id own", "random-seed absent", "hostname differ", "fs-uuids equal"} {
		if !slices.Contains(rules, want) {
			t.Errorf("no %q in %q", want, rules)
		}
	}
	if names := Names(); len(names) != len(kinds) || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("%q", names)
	}
}

func FuzzGather(f *testing.F) {
	for i := range kinds {
		f.Add(byte(i), []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== root@a\n"))
		f.Add(byte(i), []byte("default-duid \"\\000\";\nPrivateKey=x\nHWADDR=00:11:22:33:44:55\nHostKey /../x\n"))
		f.Add(byte(i), []byte{0xff, 0, '\n', '='})
	}
	f.Fuzz(func(t *testing.T, which byte, content []byte) {
		k := kinds[int(which)%len(kinds)]
		all := map[string]string{}
		for _, p := range k.probes {
			for _, pattern := range p.patterns {
				all[strings.ReplaceAll(pattern, "*", "x")] = string(content)
			}
		}
		for _, fact := range k.gather(tree(all)) {
			if len(fact.Value) > maxValue+4 || fact.Name != k.name || strings.ContainsFunc(fact.Value+fact.Where, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q", fact)
			}
		}
	})
}
