repository "internal" {
  path     = "repo"
  unsigned = true
}

image "nameless" {
  template "internal" {}
}
image "values" {
  template "internal" {
    name    = "debian 12"
    channel = "r5"
    arch    = "x86-64"
    refresh = "dayly"
  }
}
image "at" {
  template "internal" { name = "debian-12@testing" }
}
image "two" {
  template "internal" {
    name     = "debian-12"
    channel  = "testing"
    revision = 5
  }
}
image "zero" {
  template "internal" {
    name     = "debian-12"
    revision = 0
  }
}
image "half" {
  template "internal" {
    name     = "debian-12"
    revision = 1.5
  }
}
image "starts" {
  template "internal" { name = "debian-12" }
  import {
    path     = "a"
    checksum = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
}
image "twice" {
  template "internal" { name = "debian-12" }
  template "internal" { name = "debian-11" }
}
image "unlabelled" {
  template "" { name = "debian-12" }
}
image "unknown" {
  template "internal" { nam = "debian-12" }
}
image "disk" {
  disk { size = "half" }
  template "internal" { name = "debian-12" }
}
