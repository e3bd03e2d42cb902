image "base" {
  disk { size = "8G" }
  install "preseed" {
    location   = "http://mirror.invalid/debian/dists/bookworm/main/installer-amd64/"
    answers    = "d-i x/y string z"
    host_ports = [3142]
    hosts      = { "mirror.example.org" = "10.0.2.2" }
    dns        = ["10.0.0.53"]
  }
  step "run" "everything" {
    script     = "true"
    network    = true
    hosts      = { "Puppet.Example.Org." = "10.0.2.2", db = "192.0.2.7", _dmarc = "192.0.2.8" }
    host_ports = [8140, "443", 8140]
    dns        = ["10.0.0.53", "10.0.0.54:5353", "2001:db8::53", "[2001:db8::54]:5353"]
    proxy      = "http://proxy.example.org:3128"
    forward    = { "2222" = "22", (8080) = 80 }
  }
  step "run" "password" {
    script  = "true"
    network = true
    proxy   = "http://me:${env("TOKEN", "2")}@proxy.example.org:3128"
  }
  step "packages" "by-itself" {
    install    = ["curl"]
    host_ports = [3142]
  }
  step "run" "nothing" {
    script  = "true"
    network = true
    hosts   = {}
    dns     = null
  }
  step "run" "off" {
    script  = "true"
    network = false
    hosts   = null
  }
}
