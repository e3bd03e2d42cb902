image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "packages" "nothing" {}
  step "packages" "names" {
    install = ["--yes", "curl"]
    remove  = ["a;b"]
  }
  step "run" "empty" {
    script      = " "
    environment = { "c d" = 1, "a b" = 2, "e=f" = 3 }
  }
  step "file" "f" {
    path    = "etc/motd"
    content = ""
    mode    = "rw-r--r--"
    owner   = "a:b"
    group   = "G"
  }
  step "copy" "c" {
    source      = ""
    destination = "/srv/../../etc"
  }
  step "delete" "d" {
    paths = []
  }
  step "delete" "root" {
    paths = ["/", "tmp"]
  }
  step "user" "u" {
    name   = "Deploy"
    uid    = -1
    groups = ["su do"]
    shell  = "sh"
    home   = "home"
  }
  step "password" "nothing" {
    user = "root"
  }
  step "password" "line" {
    user     = "root"
    password = "a\n"
  }
  step "password" "both" {
    user   = "root"
    hash   = "plain"
    locked = true
  }
  step "ssh_key" "private" {
    user = "root"
    keys = ["-----BEGIN OPENSSH PRIVATE KEY-----"]
  }
  step "hostname" "h" {
    name = "a_b"
  }
  step "timezone" "t" {
    zone = "../UTC"
  }
  step "service" "nothing" {
    name = "s s h"
  }
  step "service" "both" {
    name    = "ssh"
    enabled = true
    masked  = true
  }
  sysprep {
    operations = ["machine-di"]
  }
  test "boots" {
    command "c" {
      run    = "true"
      expect = "(unclosed"
    }
  }
}
