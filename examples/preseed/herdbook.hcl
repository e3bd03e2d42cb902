# Debian 12 by its own installer, as the mirror's signed Release vouches for it.
variable "mirror" {
  default = "http://deb.debian.org/debian"
}

image "bookworm" {
  disk { size = "4G" }
  install "preseed" {
    location  = "${var.mirror}/dists/bookworm/main/installer-amd64/"
    answers   = file("preseed.cfg")
    arguments = ["---", "console=tty0", "console=ttyS0,115200"] # behind --- for the installed system, too
  }
  sysprep {}
  test "boots" {}
}
