# The real Debian installer to the finished disk, and the other steps on top of it.
variable "mirror" {} # where this machine finds Debian's archive
variable "proxy" {}  # where the guest finds it

repository "test" {
  path     = "repo"
  unsigned = true
}

image "bookworm" {
  disk { size = "4G" }
  install "preseed" {
    location     = "${var.mirror}/dists/bookworm/main/installer-amd64/"
    answers      = file("preseed.cfg")
    mirror_proxy = var.proxy
    files        = { "/etc/udebs-source" = "initrd.d/etc/udebs-source", "/usr/share/keyrings/archive.gpg" = "initrd.d/usr/share/keyrings/archive.gpg" }
    arguments    = ["---", "console=tty0", "console=ttyS0,115200"]
  }
}

image "server" {
  from = image.bookworm
  step "delete" "proxy" { paths = ["/etc/apt/apt.conf"] }
  step "file" "motd" {
    path    = "/etc/motd"
    content = "installed by the distribution, kept by herdbook\n"
  }
  sysprep {}
  test "boots" {
    command "release" {
      run    = "cat /etc/os-release"
      expect = "bookworm"
    }
    command "answers" {
      run    = "hostname; cat /etc/fstab; cat /proc/cmdline; dpkg --audit; systemctl is-enabled ssh; test ! -e /etc/apt/apt.conf"
      expect = "ext4.*errors=remount-ro(?s:.*)console=ttyS0(?s:.*)enabled"
    }
  }
  publish "test" {}
}
