image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "file" "t0" {
    path    = "/a"
    content = templatefile("self.tpl", {})
  }
  step "file" "t1" {
    path    = "/a"
    content = templatefile("syntax.tpl", {})
  }
  step "file" "t2" {
    path    = "/a"
    content = templatefile("names.tpl", { a = 1 })
  }
  step "file" "t3" {
    path    = "/a"
    content = templatefile("names.tpl", "text")
  }
  step "file" "t4" {
    path    = "/a"
    content = templatefile("names.tpl", null)
  }
  step "file" "t5" {
    path    = "/a"
    content = templatefile("value.tpl", { value = ["a"] })
  }
  step "file" "t6" {
    path    = "/a"
    content = templatefile("value.tpl", { value = null })
  }
  step "file" "t7" {
    path    = "/a"
    content = templatefile("value.tpl")
  }
  step "file" "t8" {
    path    = "/a"
    content = templatefile("bytes.tpl", {})
  }
  step "file" "t9" {
    path    = "/a"
    content = file("a", "b")
  }
  step "file" "t10" {
    path    = "/a"
    content = file(["a"])
  }
  step "file" "t11" {
    path    = "/a"
    content = sha256(null)
  }
}
