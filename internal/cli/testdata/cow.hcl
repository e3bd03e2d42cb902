image "cow" {
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    variant = "minbase"
    include = ["linux-image-cloud-amd64", "systemd-sysv", "iproute2", "openssh-server", "python3", "cloud-init"]
  }
}
