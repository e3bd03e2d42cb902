image "base" {
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = ["linux-image-cloud-amd64", "openssh-server", "iproute2", "sudo", "tzdata"]
  }
}
