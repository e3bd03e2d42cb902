repository "nowhere" {
  unsigned = true
}
repository "two-places" {
  path     = "a"
  url      = "file:///a"
  unsigned = true
}
repository "r0" {
  url      = "ftp://images.example.org"
  unsigned = true
}
repository "r1" {
  url      = "https://bob:hunter@images.example.org"
  unsigned = true
}
repository "r2" {
  url      = "https://images.example.org/?a=b"
  unsigned = true
}
repository "r3" {
  url      = "s3://Images"
  unsigned = true
}
repository "r4" {
  url      = "s3://images?endpont=a"
  unsigned = true
}
repository "r5" {
  url      = "s3://images?endpoint=ftp://a"
  unsigned = true
}
repository "r6" {
  url      = "s3://images/../others"
  unsigned = true
}
repository "r7" {
  url      = "file://host/images"
  unsigned = true
}
repository "r8" {
  url      = "images"
  unsigned = true
}
repository "r9" {
  url      = "https:///images"
  unsigned = true
}
repository "both-keys" {
  path        = "b"
  signing_key = env("SIGNING_KEY")
  public_key  = "keys/public.asc"
}
repository "unsigned-key" {
  path       = "c"
  public_key = "keys/public.asc"
  unsigned   = true
}
repository "unsigned-fingerprint" {
  path         = "d"
  fingerprints = ["f7774fb1ad074a7e8c8767ea91738f73e1b768a0"]
  unsigned     = true
}
repository "fingerprints" {
  path         = "e"
  fingerprints = ["E1B768A0", "not hexadecimal"]
}
repository "no-fingerprints" {
  path         = "f"
  fingerprints = []
}
repository "secret-public-key" {
  path       = "g"
  public_key = "keys/secret.asc"
}
repository "no-public-key" {
  path       = "h"
  public_key = "keys/none.asc"
}
repository "values" {
  path       = "i"
  unsigned   = true
  format     = "natve"
  formats    = ["vagrant", "vagrant", "zip"]
  valid_for  = "30m"
  public_url = "images.example.org"
}
repository "days" {
  path      = "i"
  unsigned  = true
  valid_for = "99999d"
}
repository "credentials" {
  path          = "j"
  unsigned      = true
  access_key    = env("TOKEN")
  secret_key    = env("TOKEN")
  session_token = env("TOKEN")
  token         = "keys/none"
}
repository "half" {
  url           = "s3://images"
  unsigned      = true
  access_key    = env("EMPTY")
  token         = "keys/empty"
}
repository "other-half" {
  url           = "s3://images"
  unsigned      = true
  secret_key    = env("TOKEN")
  session_token = env("TOKEN")
}
repository "alone" {
  url           = "s3://images"
  unsigned      = true
  session_token = env("TOKEN")
}
repository "streams" {
  url         = "https://images.example.org"
  format      = "simplestreams"
  signing_key = env("SIGNING_KEY")
}
repository "streams-without-key" {
  url          = "https://images.example.org"
  format       = "simplestreams"
  fingerprints = ["f7774fb1ad074a7e8c8767ea91738f73e1b768a0"]
}
repository "read" {
  path       = "k"
  public_key = "keys/public.asc"
  formats    = ["xz"]
}
repository "not-secret" {
  url        = env("TOKEN")
  unsigned   = true
  public_url = env("TOKEN")
}

repository "in-clear" {
  url      = "http://images.example.org"
  unsigned = true
  token    = env("TOKEN")
}
repository "in-clear-by-number" {
  url      = "http://192.0.2.7"
  unsigned = true
  token    = env("TOKEN")
}
repository "nothing-to-trust" {
  url          = "https://images.example.org"
  unsigned     = true
  token        = env("TOKEN")
  trusted_http = true
}

repository "only-read" {
  path       = "l"
  public_key = "keys/public.asc"
}
repository "only-streams" {
  url      = "https://images.example.org"
  unsigned = true
  format   = "simplestreams"
}
repository "only-served" {
  url      = "https://images.example.org"
  unsigned = true
}
repository "good" {
  path     = "m"
  unsigned = true
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  publish "only-read" {}
  publish "only-streams" {}
  publish "only-served" {}
  publish "good" { channel = "r5" }
  publish "good" { channel = "To test" }
  publish "good" { chanel = "testing" }
  publish "good" { channel = "testing" }
  publish "good" { channel = "testing" }
}
