image "base" {
  = 1
}
