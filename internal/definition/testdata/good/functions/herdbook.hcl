image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "file" "file" {
    path    = "/a"
    content = file("greeting.txt")
  }
  step "file" "template" {
    path    = "/b"
    content = templatefile("site.tpl", { name = "web", ports = [80, 443] })
  }
  step "file" "only-a-number" {
    path    = "/c"
    content = templatefile("number.tpl", { port = 80 })
  }
  step "file" "sha256" {
    path    = "/d"
    content = sha256("abc")
  }
  step "file" "others" {
    path    = "/e"
    content = format("%s %s %s", base64encode("abc"), upper("abc"), jsonencode({ a = [1, true, null] }))
  }
  step "packages" "conditional" {
    install = [for p in ["curl", "wget"] : "${p}=1.0" if p != "wget"]
  }
}
