#!/bin/sh
# VirtualBox's disk hangs on AHCI. An initrd that was made for the machine of the build
# alone has no driver for it.
for modules in /lib/modules/*/modules.dep; do
	version=$(basename "$(dirname "$modules")")
	if ! grep -q '/ahci\.ko' "$modules"; then continue; fi # it is built in
	if [ -x /usr/bin/dracut ]; then
		initrd=/boot/initramfs-$version.img
		if [ ! -e "$initrd" ] || lsinitrd "$initrd" | grep -q '/ahci\.ko'; then continue; fi
		echo 'add_drivers+=" ahci sd_mod "' >/etc/dracut.conf.d/50-vagrant.conf
		dracut --force --kver "$version" "$initrd"
	elif [ -x /usr/sbin/update-initramfs ]; then
		initrd=/boot/initrd.img-$version
		if [ ! -e "$initrd" ] || lsinitramfs "$initrd" | grep -q '/ahci\.ko'; then continue; fi
		printf 'ahci\nsd_mod\n' >>/etc/initramfs-tools/modules
		update-initramfs -u -k "$version"
	fi
done
