repository "r" {
  path     = "repo"
  unsigned = true
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "run" "With Space" {
    script = "true"
  }
  step "run" "" {
    script = "true"
  }
  publish "r" {
    name = "Base!"
  }
  publish "r" {
    name = ""
  }
  target "docker" {
    tags = ["base", "Base:1", "base:", "a//b:1", "good:1", "a:b:c d"]
  }
}

image "" {
  from = image.base
}

image ".." {
  from = image.base
}

image "-a" {
  from = image.base
}

image "UPPER" {
  from = image.base
}

image "a/b" {
  from = image.base
}

image "ümlaut" {
  from = image.base
}

image "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" {
  from = image.base
}
