repository "r" {
  path        = "repo"
  signing_key = null
  unsigned    = true
}

image "base" {
  from = null
  disk { size = "1G" }
  bootstrap "mmdebstrap" {
    suite    = "bookworm"
    mirror   = "http://deb.debian.org/debian"
    variant  = null
    keyring  = null
    include  = null
  }
  step "run" "r" {
    script      = "true"
    environment = null
    network     = null
    timeout     = null
  }
  step "service" "s" {
    name    = "ssh"
    enabled = null
    masked  = true
  }
  test "boots" {
    firmware = null
    timeout  = null
  }
  target "docker" {
    tags   = null
    output = null
  }
}
