image "unknown" {
  from = image.none
}
