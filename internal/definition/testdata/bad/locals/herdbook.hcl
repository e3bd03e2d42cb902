locals {
  a    = local.b
  b    = "${local.c}"
  c    = [local.a]
  self = local.self
  fine = "x"
  none = local.fin
  file = file("none")
  uses = "${local.file} ${local.none}"
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "run" "r" {
    script = local.uses
  }
}
