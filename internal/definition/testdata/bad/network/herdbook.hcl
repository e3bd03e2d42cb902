image "base" {
  disk { size = "8G" }
  install "preseed" {
    location   = "http://mirror.invalid/debian/dists/bookworm/main/installer-amd64/"
    answers    = "d-i x/y string z"
    host_ports = [70000]
    proxy      = "http://proxy.example.org:3128"
  }
  step "run" "off" {
    script     = "true"
    hosts      = { db = "192.0.2.7" }
    host_ports = [8140]
    dns        = ["10.0.0.53"]
    proxy      = "http://proxy.example.org:3128"
    forward    = { "2222" = "22" }
  }
  step "packages" "turned-off" {
    install    = ["curl"]
    network    = false
    host_ports = [3142]
  }
  step "run" "names" {
    script  = "true"
    network = true
    hosts = {
      "a b"       = "192.0.2.7"
      "-a"        = "192.0.2.7"
      "a..b"      = "192.0.2.7"
      ""          = "192.0.2.7"
      "${join("", [for i in range(64) : "x"])}" = "192.0.2.7"
      "six"       = "2001:db8::1"
      "mapped"    = "::ffff:127.0.0.1"
      "name"      = "other.example.org"
      "Twice"     = "192.0.2.7"
      "twice."    = "192.0.2.8"
    }
  }
  step "run" "ports" {
    script     = "true"
    network    = true
    host_ports = [0, 65536, -1, "ssh", 1.5]
    forward    = { "0" = "22", "2222" = "x", "80" = 80, "080" = 81 }
  }
  step "run" "dns" {
    script  = "true"
    network = true
    dns     = ["ns.example.org", "10.0.0.53:0", "", "10.0.0"]
    proxy   = "proxy.example.org:3128"
  }
  step "run" "password" {
    script  = "true"
    network = true
    proxy   = "http://me:secret@proxy.example.org:3128"
  }
  step "run" "hushed" {
    script  = "true"
    network = true
    proxy   = "ftp://me:${env("TOKEN")}@proxy.example.org"
  }
  step "run" "secrets" {
    script     = "true"
    network    = true
    hosts      = { db = env("TOKEN") }
    host_ports = [env("TOKEN")]
  }
  step "run" "types" {
    script     = "true"
    network    = true
    hosts      = ["db"]
    host_ports = { a = 1 }
    forward    = "2222:22"
  }
}
