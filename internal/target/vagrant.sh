#!/bin/sh
# What Vagrant expects of every box: the account vagrant with a well-known password and
# key, sudo without a password, an sshd that asks no DNS, and DHCP on the first network
# device, whatever it is called.
# https://developer.hashicorp.com/vagrant/docs/boxes/base

for program in /usr/sbin/sshd /usr/bin/sudo; do
	if [ ! -e "$program" ]; then
		echo "a box needs $program, and this system has none: install the package that brings it" >&2
		exit 1
	fi
done

# The first account has the number 1000 nearly everywhere, and so have the files in
# folders that hosts share.
if ! grep -q '^vagrant:' /etc/passwd; then
	number=
	if ! cut -d: -f3 /etc/passwd | grep -qx 1000; then number='--uid 1000'; fi
	useradd --create-home --shell /bin/bash $number vagrant
fi
echo vagrant:vagrant | chpasswd

# The key is replaced at the first "vagrant up", by this very line. Of the two keys that
# newer ones know, those before 2.3.7 would leave the Ed25519 one where it is, for all to
# come in by; all of them know this one.
home=$(grep '^vagrant:' /etc/passwd | cut -d: -f6)
mkdir -p "$home/.ssh"
key='ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key'
touch "$home/.ssh/authorized_keys"
if ! grep -qxF "$key" "$home/.ssh/authorized_keys"; then
	echo "$key" >>"$home/.ssh/authorized_keys"
fi
chmod 0700 "$home/.ssh"
chmod 0600 "$home/.ssh/authorized_keys"
chown -R vagrant: "$home/.ssh"

mkdir -p /etc/sudoers.d
printf 'vagrant ALL=(ALL:ALL) NOPASSWD: ALL\nDefaults:vagrant !requiretty\n' >/etc/sudoers.d/vagrant
chmod 0440 /etc/sudoers.d/vagrant

# The first value of a setting counts.
if grep -qi '^[[:space:]]*include[[:space:]]*/etc/ssh/sshd_config.d/' /etc/ssh/sshd_config; then
	mkdir -p /etc/ssh/sshd_config.d
	echo 'UseDNS no' >/etc/ssh/sshd_config.d/00-vagrant.conf
elif ! grep -qix 'UseDNS no' /etc/ssh/sshd_config; then
	sed -i '1i UseDNS no' /etc/ssh/sshd_config
fi

# DHCP by what the system has its network from. The names that Vagrant gives to what it
# adds for further devices stand before these.
if [ -x /usr/sbin/netplan ] && [ -d /etc/netplan ]; then
	cat >/etc/netplan/90-vagrant.yaml <<-'END'
	network:
	  version: 2
	  ethernets:
	    zz-vagrant:
	      match: {name: "e*"}
	      dhcp4: true
	      dhcp-identifier: mac
	      optional: true
	END
	chmod 0600 /etc/netplan/90-vagrant.yaml
elif [ -x /usr/sbin/NetworkManager ]; then
	mkdir -p /etc/NetworkManager/system-connections
	printf '%s\n' '[connection]' 'id=vagrant' 'type=ethernet' 'autoconnect-priority=-100' 'multi-connect=3' '' \
		'[ipv4]' 'method=auto' >/etc/NetworkManager/system-connections/vagrant.nmconnection
	chmod 0600 /etc/NetworkManager/system-connections/vagrant.nmconnection
elif [ -x /sbin/ifup ]; then
	mkdir -p /etc/network/interfaces.d
	printf '%s\n' 'auto /e*/1=vagrant' 'iface vagrant inet dhcp' >/etc/network/interfaces.d/vagrant
	touch /etc/network/interfaces
	if ! grep -q '^source.*/etc/network/interfaces.d' /etc/network/interfaces; then
		echo 'source /etc/network/interfaces.d/*' >>/etc/network/interfaces
	fi
elif [ -e /lib/systemd/systemd-networkd ]; then
	mkdir -p /etc/systemd/network
	printf '%s\n' '[Match]' 'Type=ether' 'Name=e*' '' '[Network]' 'DHCP=yes' '' '[DHCPv4]' 'ClientIdentifier=mac' \
		>/etc/systemd/network/90-vagrant.network
	# Which leaves it to another to write /etc/resolv.conf.
	if [ ! -e /lib/systemd/systemd-resolved ] && [ -x /usr/bin/apt-get ]; then
		apt-get -q update
		DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends systemd-resolved
	fi
	systemctl enable systemd-networkd.service
	if [ -e /lib/systemd/systemd-resolved ]; then systemctl enable systemd-resolved.service; fi
else
	echo 'a box gets its address by DHCP, and this system has nothing for it: install systemd-networkd, NetworkManager or ifupdown' >&2
	exit 1
fi
