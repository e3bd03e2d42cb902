# What the steps of Puppet start from: an image with an agent, whose service would
# start by itself, and a network.
image "puppet" {
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = ["linux-image-cloud-amd64", "iproute2", "tzdata", "dbus", "puppet-agent"]
  }
  step "run" "network" {
    script = <<-EOT
      printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' > /etc/systemd/network/lan.network
      systemctl enable systemd-networkd puppet
      echo nameserver 10.0.2.3 > /etc/resolv.conf
    EOT
  }
}
