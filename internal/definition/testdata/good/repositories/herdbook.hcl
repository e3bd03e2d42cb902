repository "directory" {
  url         = "file:///srv/images/"
  signing_key = env("SIGNING_KEY")
  formats     = ["xz", "qcow2", "vagrant", "netboot"]
  valid_for   = "12h"
  public_url  = "https://images.example.org/herd/"
}

repository "bucket" {
  url           = "s3://images/herd/?endpoint=https://s3.example.org&region=eu-1"
  signing_key   = env("SIGNING_KEY")
  access_key    = env("ACCESS_KEY")
  secret_key    = env("TOKEN")
  session_token = env("ROOT_PASSWORD")
  valid_for     = "never"
}

repository "server" {
  url       = "https://images.example.org:8443/herd/"
  unsigned  = true
  token     = "keys/token"
  valid_for = "30d"
}

repository "stock" {
  url          = "https://builder.example.org"
  public_key   = "keys/public.asc"
  fingerprints = ["F777 4FB1 AD07 4A7E 8C87 67EA 9173 8F73 E1B7 68A0"]
}

repository "by-fingerprint" {
  url          = "http://mirror.example.org/images"
  fingerprints = ["f7774fb1ad074a7e8c8767ea91738f73e1b768a0"]
  token        = env("TOKEN")
  trusted_http = true
}

repository "here" {
  url         = "http://127.0.0.1:8080"
  signing_key = env("SIGNING_KEY")
  token       = env("TOKEN")
}

repository "lxd" {
  url        = "https://images.example.com/streams"
  format     = "simplestreams"
  public_key = "keys/public.asc"
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  publish "directory" {}
  publish "directory" { channel = "testing" }
  publish "bucket" { channel = "stable" }
  publish "server" { name = "debian-12" }
}

repository "card" {
  path        = "card"
  signing_key = "gpg:0123456789ABCDEF0123456789ABCDEF01234567"
}
