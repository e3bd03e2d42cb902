# Any disk image: Debian's cloud image here. It may be raw, qcow2, vmdk, vhdx or vdi, and
# packed in gz, xz, zst, bz2 or tar (an OVA, too).
#
# Both variables must be set, with --var or in the environment: an address that goes on
# meaning the same bytes, and what they are. Debian keeps a directory for each day below
# https://cloud.debian.org/images/cloud/bookworm/ ("latest" changes its content), where
# SHA512SUMS has the checksums:
#
#   herdbook build \
#     --var image=https://cloud.debian.org/images/cloud/bookworm/DAY/debian-12-genericcloud-amd64-DAY.qcow2 \
#     --var checksum=sha512:…
variable "image" {
  type        = string
  description = "address of the disk image"
}

variable "checksum" {
  type        = string
  description = "its checksum, as sha256:… or sha512:…"
}

image "cloud" {
  import {
    url      = var.image
    checksum = var.checksum
    format   = "qcow2"
  }
  sysprep {}
  test "boots" {}
}
