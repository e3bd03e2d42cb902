image "web" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://mirror.invalid"
  }

  test "boots" {
    network = true
    command "who" {
      run  = "id -un"
      user = "nobody"
    }
  }
  test "boots" {}
  test "boots" {}

  test "command" {
    run = "uptime"
  }
  test "command" {
    name        = "the site"
    run         = <<-EOT
      #!/bin/sh
      curl --fail http://localhost/
    EOT
    expect      = "^moo"
    exit_status = 22
    user        = "www-data"
    timeout     = "90s"
    firmware    = "uefi"
    network     = true
    alone       = true
  }
  test "command" {
    run = <<-EOT
      set -e
      reboot --when=never
    EOT
  }
  test "command" {
    run = "uptime"
  }

  test "port" {
    port = 22
  }
  test "port" {
    port     = 53
    protocol = "udp"
    address  = "127.0.0.53"
    wait     = "5m"
  }
  test "port" {
    port    = 25
    address = "::1"
    open    = false
    wait    = "0s"
  }

  test "service" {
    name = "ssh"
  }
  test "service" {
    name    = "apt-daily.timer"
    running = false
    enabled = false
  }
  test "service" {
    name    = "getty@tty1.service"
    enabled = true
  }

  test "goss" {
    file = "one.yaml"
  }
  test "goss" {
    file    = "goss"
    vars    = "link.yaml"
    goss    = "program"
    timeout = "1h"
  }
}
