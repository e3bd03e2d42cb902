image "base" {
  from = image.a-b
}
