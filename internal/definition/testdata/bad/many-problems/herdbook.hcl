image "a" {
  from = image.b
  step "run" "one" {
    script  = file("none")
    timeout = "x"
  }
  step "exec" "two" {}
}

image "b" {
  bootstrap "mmdebstrap" {
    suite = "bookworm"
  }
  disk { size = "1" }
  colour = "red"
  step "user" "three" {
    name = "X"
    uid  = "y"
  }
}
