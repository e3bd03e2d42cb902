image "base" {
  from = 
}

image "a" {
  from = "unclosed
}

image b {
