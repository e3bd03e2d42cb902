image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "many" {
  for_each = toset([for i in range(30) : "n${i}"])
  from     = image.base
}

image "x" {
  from = "somewhere-else"
}
