image "a" {
  from = image.b
}

image "b" {
  from = image.c
}

image "c" {
  from = image.a
}

image "self" {
  from = image.self
}

image "outside" {
  from = image.a
}
