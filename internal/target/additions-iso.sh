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
headers=
for kernel in $kernels; do headers="$headers linux-headers-$kernel"; done
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y install --no-install-recommends dkms make gcc perl bzip2 tar $headers

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
for kernel in $kernels; do
	if ! dkms install -m vboxguest -v "$version" -k "$kernel"; then
		cat "/var/lib/dkms/vboxguest/$version/build/make.log" >&2 || true
		echo "the guest additions $version cannot be built for the kernel $kernel: take an ISO that is newer than the kernel" >&2
		exit 1
	fi
done

install -m 0755 "$work/tree/sbin/VBoxService" /usr/sbin/VBoxService
install -m 0755 "$work/tree/bin/VBoxControl" /usr/bin/VBoxControl
install -m 0755 "$work/tree/other/mount.vboxsf" /usr/sbin/mount.vboxsf
printf 'vboxguest\nvboxsf\n' >/etc/modules-load.d/vboxguest.conf
cat >/etc/systemd/system/vboxservice.service <<'END'
[Unit]
Description=VirtualBox guest additions
ConditionVirtualization=oracle
After=systemd-modules-load.service

[Service]
ExecStart=/usr/sbin/VBoxService --foreground
Restart=on-failure

[Install]
WantedBy=multi-user.target
END
systemctl enable vboxservice.service
rm -rf "$work" "$iso"
