variable "v" {
  default = 1
}
variable "v" {
  default = 2
}
locals {
  l = 1
}
locals {
  l = 2
}
repository "r" {
  path     = "a"
  unsigned = true
}
repository "r" {
  path     = "b"
  unsigned = true
}
image "base" {
  disk { size = "1G" }
  disk { size = "2G" }
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "run" "x" {
    script = "true"
  }
  step "run" "x" {
    script = "false"
  }
  step "delete" "x" {
    paths = ["/a"]
  }
  sysprep {}
  sysprep {}
  publish "r" {}
  publish "r" {}
  target "docker" {}
  target "docker" {
    output = "./dist"
  }
  target "docker" {
    output = "elsewhere"
  }
  target "openstack" {}
  target "openstack" {
    output  = "elsewhere"
    console = ""
  }
}
image "a-b" {
  from = image.base
  publish "r" {
    name = "base"
  }
}
image "a" {
  for_each = toset(["b", "c"])
  from     = image.base
  publish "r" {
    name = "all"
  }
}
