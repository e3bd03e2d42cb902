#!/bin/sh
# Installs VirtualBox's guest additions from the ISO that a step before has laid here:
# their modules by DKMS, for every kernel that is installed, the service that tells a host
# of the guest, and what mounts shared folders. Nothing of theirs for a desktop.
iso=/var/tmp/herdbook-guest-additions.iso
work=/var/tmp/herdbook-guest-additions
mkdir -p "$work/iso" "$work/tree"
modprobe -a loop isofs
mount -o loop,ro "$iso" "$work/iso"

kernels=
for modules in /lib/modules/*/modules.dep; do kernels="$kernels $(basename "$(dirname "$modules")")"; done
if [ ! -x /usr/bin/apt-get ]; then
	echo 'herdbook builds guest additions on systems with apt only; take those of the distribution' >&2
	exit 1
fi
# Headers by the packages of kernels as well that bring the newest one: so an upgrade has
# what DKMS needs for it.
newest=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 'linux-image-[a-z]*' |
	sed -n -e '/^linux-image-unsigned-/d' -e '/^linux-image-extra-/d' -e 's/^linux-image-\(.*\) installed$/linux-headers-\1/p')
packages="dkms make gcc perl bzip2 tar $newest" missing=
for kernel in $kernels; do packages="$packages linux-headers-$kernel"; done
for package in $packages; do
	if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then missing="$missing $package"; fi
done
if [ "$missing" ]; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update
	if ! apt-get -q -y install --no-install-recommends $missing; then
		echo "the modules of the guest additions need$missing; an archive that has the headers of a newer kernel only wants that kernel in the image, too: update it in a step before" >&2
		exit 1
	fi
fi

sh "$work/iso/VBoxLinuxAdditions.run" --noexec --keep --target "$work/run" >/dev/null
umount "$work/iso"
tar -C "$work/tree" -xf "$work/run/VBoxGuestAdditions-amd64.tar.bz2"
source=$(echo "$work"/tree/src/vboxguest-*)
version=${source##*/vboxguest-}
rm -rf "$source/vboxvideo" "/usr/src/vboxguest-$version"
mv "$source" /usr/src/
cat >"/usr/src/vboxguest-$version/dkms.conf" <<END
PACKAGE_NAME="vboxguest"
PACKAGE_VERSION="$version"
MAKE[0]="env make KERN_VER=\${kernelver} vboxguest vboxsf"
CLEAN="env make KERN_VER=\${kernelver} clean"
BUILT_MODULE_NAME[0]="vboxguest"
DEST_MODULE_LOCATION[0]="/updates/dkms"
BUILT_MODULE_NAME[1]="vboxsf"
DEST_MODULE_LOCATION[1]="/updates/dkms"
AUTOINSTALL="yes"
END
chown -R root:root "/usr/src/vboxguest-$version"
key=/var/lib/dkms/mok.key
if [ -e $key ]; then key=; fi
for kernel in $kernels; do
	if ! dkms install -m vboxguest -v "$version" -k "$kernel"; then
		cat "/var/lib/dkms/vboxguest/$version/build/make.log" >&2 || true
		echo "the guest additions $version cannot be built for the kernel $kernel: take an ISO that is newer than the kernel" >&2
		exit 1
	fi
done

# What DKMS has made to sign modules with would be the same on every machine. It makes
# another where there is none.
if [ "$key" ]; then rm -f $key ${key%.key}.pub; fi

install -m 0755 "$work/tree/sbin/VBoxService" /usr/sbin/VBoxService
install -m 0755 "$work/tree/bin/VBoxControl" /usr/bin/VBoxControl
install -m 0755 "$work/tree/other/mount.vboxsf" /usr/sbin/mount.vboxsf
cat >/etc/systemd/system/vboxservice.service <<'END'
[Unit]
Description=VirtualBox guest additions
ConditionVirtualization=oracle

[Service]
ExecStartPre=modprobe -a vboxguest vboxsf
ExecStart=/usr/sbin/VBoxService --foreground
Restart=on-failure

[Install]
WantedBy=multi-user.target
END
systemctl enable vboxservice.service
rm -rf "$work" "$iso"
