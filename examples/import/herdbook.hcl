# Any disk image: Debian's cloud image here. It may be raw, qcow2, vmdk, vhdx or vdi, and
# packed in gz, xz, zst, bz2 or tar (an OVA, too). The checksum stands in SHA512SUMS
# beside the image.
variable "checksum" {
  default = "sha512:00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
}

image "cloud" {
  import {
    url      = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
    checksum = var.checksum
    format   = "qcow2"
  }
  sysprep {}
  test "boots" {}
}
