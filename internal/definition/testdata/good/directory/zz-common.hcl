locals {
  mirror = "http://mirror/${local.suite}"
}

repository "internal" {
  path     = "repo"
  unsigned = true
}
