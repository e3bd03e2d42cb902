image "web" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://mirror.invalid"
  }

  test "comand" {
    run = "uptime"
  }
  test "command" {}
  test "command" {
    run         = " "
    expect      = "(unclosed"
    exit_status = 256
    user        = "a b"
  }
  test "command" {
    run         = "true"
    firmware    = "efi"
    timeout     = "never"
    network     = "perhaps"
  }
  test "port" {
    port     = 65536
    address  = "localhost"
    protocol = "icmp"
  }
  test "port" {
    port = 22
    wait = "2h"
  }
  test "port" {
    port = "ssh"
    open = "maybe"
  }
  test "port" {}
  test "service" {
    name = "a b"
  }
  test "service" {
    name    = "ssh"
    running = "yes, please"
  }
  test "service" {}
  test "goss" {}
  test "goss" {
    file = "goss"
    vars = "goss"
    goss = "nowhere"
  }
  test "command" {
    run  = "true"
    name = "012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
  }
  test "clones" {
    alone = true
  }
}
