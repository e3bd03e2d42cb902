#!/bin/bash
# up.sh BOX WORK: adds a box for libvirt through its catalogue, starts a machine of it by
# the real vagrant and logs into it. To be run in namespaces of its own for the network,
# mounts and processes: what libvirt makes there, daemons, bridges and rules of the
# firewall, is gone with them.
set -euo pipefail
box=$1 work=$2

# The names by which libvirt keeps what it has are the machine's.
for dir in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
	mkdir -p "$dir"
	mount -t tmpfs tmpfs "$dir"
done
cp -a /etc/libvirt "$work/etc"
mount --bind "$work/etc" /etc/libvirt
mkdir -p /run/libvirt /run/lock /var/lib/libvirt/{qemu,images,boot,dnsmasq,network}
ip link set lo up
export LC_ALL=C.UTF-8 HOME=$work/home VAGRANT_HOME=$work/vagrant VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_NO_COLOR=1
export LIBVIRT_DEFAULT_URI=qemu:///system
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
mkdir -p "$HOME" "$work/project" "$work/pool"
chmod 0755 "$work" "$work/pool"

# A daemon that goes to the background does so when it is ready.
virtlogd -d -p "$work/virtlogd.pid"
LIBVIRT_LOG_OUTPUTS=2:file:$work/libvirtd.log libvirtd -d -p "$work/libvirtd.pid"
virsh -q pool-define-as pool dir --target "$work/pool"
virsh -q pool-start pool

catalogue() { # VERSION…: says which versions of the box there are
	local version sum separator=
	sum=$(sha256sum "$box" | cut -d' ' -f1)
	{
		echo '{"name":"herd/box","versions":['
		for version; do
			echo "$separator{\"version\":\"$version\",\"providers\":[{\"name\":\"libvirt\",\"url\":\"file://$box\",\"checksum_type\":\"sha256\",\"checksum\":\"$sum\"}]}"
			separator=,
		done
		echo ']}'
	} >"$work/box.json"
}
catalogue 1.0.0
vagrant box add "file://$work/box.json" --provider libvirt
cd "$work/project"
echo moo >shared
cat >Vagrantfile <<'END'
Vagrant.configure("2") do |config|
  config.vm.box = "herd/box"
  config.vm.boot_timeout = 900
  config.vm.provider :libvirt do |v|
    v.driver = "qemu"
    v.cpu_mode = "custom"
    v.cpu_model = "qemu64"
    v.memory = 768
    v.storage_pool_name = "pool"
    v.graphics_type = "none"
    v.video_type = "none"
    v.serial :type => "file", :source => {:path => "/var/log/libvirt/console"}
  end
end
END
catalogue 1.0.0 1.1.0
vagrant box outdated
vagrant up --provider=libvirt
vagrant ssh -c 'sudo id -u; cat /vagrant/shared; echo keys $(grep -c . .ssh/authorized_keys), insecure $(grep -c "vagrant insecure public key" .ssh/authorized_keys); nproc; systemctl is-system-running --wait'
vagrant destroy -f
