# More instances than a sort by insertion takes, between images without.
image "z" {
  from = image.base
}

image "m" {
  for_each = toset([for i in range(40) : format("%02d", i)])
  from     = image.base
}

image "a" {
  for_each = toset([for i in range(40) : format("%02d", i)])
  from     = image.base
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}
