image "tree" {
  disk { size = "8G" }
  install "preseed" {
    location     = "http://mirror.invalid/debian/dists/bookworm/main/installer-amd64/"
    answers      = file("preseed.cfg")
    arguments    = ["locale=en_US.UTF-8", "hostname=base-image"]
    files        = { "/late.sh" = "late.sh", "/extra" = "extra" }
    mirror_proxy = "http://proxy.invalid:3128"
    keyring      = "late.sh"
    refresh      = "never"
    firmware     = "uefi"
    memory       = "2G"
    timeout      = "2h"
  }
}

image "sums" {
  install "preseed" {
    location        = "https://mirror.invalid/installer"
    kernel_checksum = "sha256:${sha256("kernel")}"
    initrd_checksum = "sha256:${sha256("initrd")}"
    answers         = "d-i passwd/root-password-crypted password ${env("HASH", "1")}"
  }
}

image "disc" {
  install "autoinstall" {
    location = "media/ubuntu 24.04.iso"
    checksum = "${sha256("disc")}"
    answers  = "#cloud-config\nautoinstall: {version: 1}\n"
  }
}

image "outright" {
  install "kickstart" {
    kernel  = "media/vmlinuz"
    initrd  = "/srv/initrd.img"
    answers = "poweroff\n"
  }
}

image "cloud" {
  import {
    url      = "https://cloud.invalid/disk.qcow2.xz"
    checksum = "sha512:${sha256("a")}${sha256("b")}"
    format   = "qcow2"
  }
}

image "local" {
  import {
    path     = "media/disk.vmdk"
    checksum = sha256("disk")
  }
}
