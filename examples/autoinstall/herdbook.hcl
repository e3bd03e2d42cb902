# Ubuntu 24.04 by the installer of its live server. The image is fetched by hand or
# by herdbook (location may be a URL); its checksum stands in SHA256SUMS beside it.
variable "disc" {
  default = "ubuntu-24.04.1-live-server-amd64.iso"
}

variable "checksum" {
  default = "sha256:e240e4b801f7bb68c20d1356b60968ad0c33a41d00d828e74ceb3364a0317be9"
}

image "noble" {
  disk { size = "10G" }
  install "autoinstall" {
    location = var.disc
    checksum = var.checksum
    answers  = file("user-data")
    timeout  = "3h"
  }
  sysprep {}
}
