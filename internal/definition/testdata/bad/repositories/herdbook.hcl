repository "keyless" {
  path = "a"
}
repository "empty" {
  path        = "b"
  signing_key = ""
}
repository "unset" {
  path        = "c"
  signing_key = env("UNSET")
}
repository "blank" {
  path        = "d"
  signing_key = env("EMPTY")
}
repository "both" {
  path        = "e"
  signing_key = env("SIGNING_KEY")
  unsigned    = true
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  publish "keyles" {}
  publish "nowhere" {}
}
