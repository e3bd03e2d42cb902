# One role for every place where its machines run: a time server, from packages to a
# ramdisk, a box for Vagrant, an image for OpenStack and a container, with
#
#     herdbook build --file examples/time-server

variable "mirror" {
  default = "http://deb.debian.org/debian"
}

image "debian-12" {
  disk { size = "3G" }

  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = var.mirror
    variant = "minbase"
    include = [
      "linux-image-amd64", # the cloud kernel has no drivers for VirtualBox's hardware
      "ifupdown", "isc-dhcp-client", "iproute2", "ca-certificates",
      # What the places need: here it takes moments, in a machine minutes.
      "cloud-init", "cloud-guest-utils", "openssh-server", "sudo", "rsync", "nfs-common",
      "chrony",
    ]
  }

  step "file" "network" {
    path    = "/etc/network/interfaces.d/lan"
    content = "allow-hotplug e*\niface e* inet dhcp\n"
  }

  sysprep {}
}

image "time-server" {
  from = image.debian-12

  step "file" "clients" {
    path    = "/etc/chrony/conf.d/clients.conf"
    content = "allow 10.0.0.0/8\nallow 192.168.0.0/16\n"
  }

  sysprep {}

  test "boots" {
    command "serves" {
      run    = "chronyc accheck 10.1.2.3"
      expect = "208 Access allowed"
    }
  }

  target "ramdisk" { max_memory = "2G" }
  target "vagrant" {}
  target "openstack" { min_ram = 512 } # measured, if it is not said: a boot more
  target "docker" {
    tags    = ["time-server:latest"]
    command = ["/usr/sbin/chronyd", "-d", "-x"] # the host's clock is the host's
  }
}
