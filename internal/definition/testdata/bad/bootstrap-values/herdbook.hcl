image "m0" {
  bootstrap "mmdebstrap" {
    suite      = "bookworm; reboot"
    mirror     = "deb.debian.org"
    components = ["main", "--evil"]
    include    = ["a b"]
  }
}

image "m1" {
  bootstrap "mmdebstrap" {
    suite      = "bookworm; reboot"
    mirror     = "ftp://m/debian"
    components = ["main", "--evil"]
    include    = ["a b"]
  }
}

image "m2" {
  bootstrap "mmdebstrap" {
    suite      = "bookworm; reboot"
    mirror     = "http://user:pass@m/debian"
    components = ["main", "--evil"]
    include    = ["a b"]
  }
}

image "m3" {
  bootstrap "mmdebstrap" {
    suite      = "bookworm; reboot"
    mirror     = "http://m/a b"
    components = ["main", "--evil"]
    include    = ["a b"]
  }
}

image "m4" {
  bootstrap "mmdebstrap" {
    suite      = "bookworm; reboot"
    mirror     = "http://[::1"
    components = ["main", "--evil"]
    include    = ["a b"]
  }
}

