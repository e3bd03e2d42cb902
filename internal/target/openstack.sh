#!/bin/sh
# What OpenStack needs on an image: cloud-init alone says what a server is.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

# Lists and packages that the step before may have fetched are of yesterday for a server.
if has apt-get; then
  apt-get clean
  rm -rf /var/lib/apt/lists/*
elif has dnf; then
  dnf --quiet clean all
elif has zypper; then
  zypper --quiet clean --all
fi

mkdir -p /etc/cloud/cloud.cfg.d
# Behind all that packages and installers lay there.
printf '# Written by herdbook.\ndatasource_list: [ %s ]\n' "$DATASOURCES" >/etc/cloud/cloud.cfg.d/99_zz_herdbook.cfg
rm -f /etc/cloud/cloud-init.disabled /etc/cloud/cloud.cfg.d/99-installer.cfg /etc/cloud/cloud.cfg.d/90-installer-network.cfg \
  /etc/cloud/cloud.cfg.d/curtin-*.cfg /etc/cloud/cloud.cfg.d/50-curtin-networking.cfg \
  /etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg /etc/cloud/cloud.cfg.d/99-disable-network-config.cfg

# Every server is a new instance.
rm -rf /var/lib/cloud/* /run/cloud-init
rm -f /var/log/cloud-init*.log
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi

# The network is what the cloud says: nothing that names a device is left.
if [ -e /etc/network/interfaces ]; then
  printf 'source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n' >/etc/network/interfaces
  rm -f /etc/network/interfaces.d/*
fi
rm -f /etc/netplan/*.yaml /etc/NetworkManager/system-connections/* /etc/systemd/network/*.network /etc/udev/rules.d/70-persistent-net.rules
for file in /etc/sysconfig/network-scripts/ifcfg-* /etc/sysconfig/network-scripts/route*-* /etc/sysconfig/network/ifcfg-* /etc/sysconfig/network/ifroute-*; do
  case $file in
  *'*'* | */ifcfg-lo) ;;
  *) rm -f "$file" ;;
  esac
done
rm -f /var/lib/dhcp/*.leases /var/lib/dhclient/* /var/lib/NetworkManager/*.lease

# unit tells whether systemd has a unit of that name.
unit() { [ -f "/etc/systemd/system/$1" ] || [ -f "/usr/lib/systemd/system/$1" ] || [ -f "/lib/systemd/system/$1" ]; }
# on tells whether it starts.
on() { unit "$1" && systemctl is-enabled --quiet "$1"; }

# What starts cloud-init, and what brings up the network that it writes down.
if has systemctl; then
  for name in cloud-init-local cloud-init-main cloud-init-network cloud-init cloud-config cloud-final; do
    if unit $name.service; then systemctl --quiet enable $name.service; fi
  done
  if ! has ifup && ! has wicked && ! on NetworkManager.service && ! on systemd-networkd.service; then
    systemctl --quiet enable systemd-networkd.service
    if unit systemd-resolved.service; then systemctl --quiet enable systemd-resolved.service; fi
  fi
elif has rc-update; then
  if has setup-cloud-init; then
    setup-cloud-init
  else
    rc-update add cloud-init-local boot
    for service in cloud-init cloud-config cloud-final; do rc-update add "$service" default; done
  fi
  if [ "$AGENT" ]; then rc-update add qemu-guest-agent default; fi
fi

# What was written in a kernel without SELinux has no labels.
label() {
  if [ -f /etc/selinux/config ] && has setfiles && ! grep -q '^SELINUX=disabled' /etc/selinux/config; then
    setfiles -m -F "/etc/selinux/$(sed -n 's/^SELINUXTYPE=//p' /etc/selinux/config)/contexts/files/file_contexts" /boot /etc /usr /var
  fi
}
trap 'status=$?; [ $status != 0 ] || label' EXIT

# GRUB names the root by its UUID only where it finds that as udev would show it, and else
# as /dev/vda1, which it is not on every bus that a cloud may have.
regenerate() {
  probe=grub-probe
  if has grub2-probe; then probe=grub2-probe; fi
  mkdir -p /dev/disk/by-uuid
  ln -sf "$($probe --target=device /)" "/dev/disk/by-uuid/$($probe --target=fs_uuid /)"
  if has update-grub; then
    update-grub
  elif has grub2-mkconfig; then
    grub2-mkconfig -o /boot/grub2/grub.cfg
  else
    grub-mkconfig -o /boot/grub/grub.cfg
  fi
}
for file in /boot/grub/grub.cfg /boot/grub2/grub.cfg; do
  if [ -f $file ] && grep -q '[[:space:]]root=/dev/[hsv]d' $file; then regenerate; fi
done

# The serial console, in which the cloud's console log is read.
[ "$CONSOLE" ] || exit 0
console=${CONSOLE%%,*}
shown() {
  for file in /boot/grub/grub.cfg /boot/grub2/grub.cfg /boot/loader/entries/*.conf /boot/extlinux.conf /boot/efi/loader/entries/*.conf; do
    if [ -f "$file" ] && grep -q "console=$console" "$file"; then return 0; fi
  done
  return 1
}
if ! shown; then
  arguments="console=tty0 console=$CONSOLE"
  if has update-grub; then
    mkdir -p /etc/default/grub.d
    printf '# Written by herdbook.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX %s"\n' "$arguments" >/etc/default/grub.d/60-openstack.cfg
    regenerate
  elif has grubby; then
    grubby --update-kernel=ALL --args="$arguments"
  elif [ -f /etc/default/grub ] && { has grub2-mkconfig || has grub-mkconfig; }; then
    printf '# Written by herdbook.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX %s"\n' "$arguments" >>/etc/default/grub
    regenerate
  elif has update-extlinux && [ -f /etc/update-extlinux.conf ]; then
    sed -i "s/^default_kernel_opts=\"/&$arguments /" /etc/update-extlinux.conf
    update-extlinux
  fi
fi
shown || { echo "no boot loader is known here whose kernel line could be given $CONSOLE: do that in a step, or say console = \"\"" >&2; exit 1; }
