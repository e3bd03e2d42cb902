# Two images: a base that is made of packages, and a web server on top of it.

variable "mirror" {
  default = "http://deb.debian.org/debian"
}

repository "local" {
  path        = "repo"
  signing_key = "keys/images.asc"
}

image "debian-12" {
  disk { size = "2G" }

  bootstrap "mmdebstrap" {
    suite   = "bookworm"
    mirror  = var.mirror
    include = ["linux-image-cloud-amd64", "ifupdown", "isc-dhcp-client", "curl"]
  }

  step "file" "network" {
    path    = "/etc/network/interfaces.d/lan"
    content = <<-EOT
      allow-hotplug en*
      iface en* inet dhcp
    EOT
  }

  sysprep {}
  publish "local" {}
}

image "web" {
  from = image.debian-12

  step "packages" "server" {
    install = ["nginx-light"]
  }

  step "file" "page" {
    path    = "/var/www/html/index.html"
    content = "Raised by herdbook.\n"
  }

  step "run" "check" {
    script = <<-EOT
      #!/bin/sh
      nginx -t
      dpkg-query -W nginx-light
    EOT
  }

  sysprep {}

  test "boots" {
    command "page" {
      run    = "curl --silent --show-error http://localhost/"
      expect = "Raised by herdbook"
    }
  }

  test "boots" {
    firmware = "uefi"
  }

  publish "local" {}

  target "docker" {
    tags    = ["web:latest"]
    command = ["nginx", "-g", "daemon off;"]
  }
}
