repository "internal" {
  path     = "repo"
  unsigned = true
}
repository "bucket" {
  url      = "s3://images/herd?region=eu-1"
  unsigned = true
}

image "plain" {
  template "internal" { name = "debian-12" }
}

image "every-field" {
  disk { size = "10G" }
  template "bucket" {
    name    = "debian-12"
    channel = "testing"
    arch    = "x86_64"
    refresh = "always"
  }
}

image "revision" {
  template "internal" {
    name     = "debian-12"
    revision = 5
    refresh  = "never"
  }
}

image "of-virt-builder" {
  template "libguestfs.org" { name = "fedora-40" }
}

image "derived" {
  from = image.plain
}
