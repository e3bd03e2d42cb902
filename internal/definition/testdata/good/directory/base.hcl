locals {
  suite = "bookworm"
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = local.suite
    mirror = local.mirror
  }
}
