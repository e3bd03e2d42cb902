locals {
  releases = { bookworm = "2G", trixie = "3G" }
}

image "debian" {
  for_each = local.releases
  disk { size = each.value }
  bootstrap "mmdebstrap" {
    suite  = each.key
    mirror = "http://deb.debian.org/debian"
  }
}

image "web" {
  for_each = toset(["b", "a"])
  from     = image.debian["bookworm"]
  step "hostname" "name" {
    name = "web-${each.key}-${each.value}"
  }
}

image "db" {
  for_each = { old = "bookworm", new = "trixie" }
  from     = image.debian[each.value]
  publish "open" {}
}

image "none" {
  for_each = toset([])
  from     = image.debian["bookworm"]
}

image "last" {
  from = image.web["a"]
}

repository "open" {
  path     = "repo"
  unsigned = true
}
