image "s0" {
  disk { size = "4" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s1" {
  disk { size = "4K" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s2" {
  disk { size = "4GB" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s3" {
  disk { size = "512M" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s4" {
  disk { size = "65T" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s5" {
  disk { size = "-1G" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s6" {
  disk { size = "9999999G" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s7" {
  disk { size = "1.5G" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s8" {
  disk { size = " 4G" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "s9" {
  disk { size = "" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}
