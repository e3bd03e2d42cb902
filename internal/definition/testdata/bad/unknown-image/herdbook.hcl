image "debian" {
  for_each = toset(["bookworm", "trixie"])
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "near" {
  from = image.debain
}

image "far" {
  from = image.windows
}

image "text" {
  from = "debian-bokworm"
}

image "key" {
  from = image.debian["sid"]
}

image "all" {
  from = image.debian
}

image "number1" {
  from = image.debian["trixie"]
}

image "number2" {
  from = image.number3
}

image "missing-local" {
  from = local.parent
}
