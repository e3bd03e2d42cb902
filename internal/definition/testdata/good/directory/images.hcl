# An image may stand before its parent, and in another file.
image "child" {
  from = image.middle
}

image "middle" {
  from = image.base
  publish "internal" {}
}
