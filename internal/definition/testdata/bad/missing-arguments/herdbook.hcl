repository "r" {
  unsigned = true
}

repository "null" {
  path     = null
  unsigned = true
}

image "base" {
  disk {}
  bootstrap "mmdebstrap" {}
  step "run" "r" {}
  step "file" "f" {
    path    = null
    content = ""
  }
  step "copy" "c" {
    source = "herdbook.hcl"
  }
  test "boots" {
    command "c" {}
    command {}
  }
}

image "empty" {
  disk { size = "" }
  bootstrap "mmdebstrap" {
    suite  = ""
    mirror = ""
  }
}
