repository "r" {
  path        = "repo"
  signing_key = "keys/none.asc"
}

image "base" {
  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = "http://deb.debian.org/debian"
    keyring = "none.gpg"
  }
  step "file" "file" {
    path    = "/a"
    content = file("none.txt")
  }
  step "file" "directory" {
    path    = "/a"
    content = file(".")
  }
  step "file" "template" {
    path    = "/a"
    content = templatefile("none.tpl", {})
  }
  step "file" "bytes" {
    path    = "/a"
    content = file("bytes.bin")
  }
  step "copy" "copy" {
    source      = "none"
    destination = "/srv"
  }
  step "copy" "device" {
    source      = "/dev/null"
    destination = "/srv"
  }
}
