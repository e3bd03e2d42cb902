locals {
  token = env("TOKEN")
  whole = { a = local.token }
}

repository "r" {
  path     = env("TOKEN")
  unsigned = true
}

image "base" {
  disk { size = env("TOKEN") }
  bootstrap "mmdebstrap" {
    suite  = env("TOKEN")
    mirror = "http://${env("TOKEN")}@mirror"
  }
  step "file" "content" {
    path    = "/etc/token"
    content = "token=${local.token}"
  }
  step "run" "script" {
    script      = "login ${local.whole.a}"
    environment = { (env("TOKEN")) = "name" }
    timeout     = env("TOKEN")
  }
  step "packages" "list" {
    install = ["curl", local.token]
  }
  step "password" "user" {
    user   = sha256(local.token)
    locked = true
  }
  step "ssh_key" "list" {
    user = "root"
    keys = [local.token]
  }
  step "hostname" "conditional" {
    name = local.token == "a" ? "a" : "b"
  }
  step "service" "bool" {
    name    = "ssh"
    enabled = local.token != ""
  }
  step "delete" "template" {
    paths = [templatefile("a.tpl", { token = local.token })]
  }
  test "boots" {
    firmware = local.token
    command "c" {
      run    = local.token
      expect = local.token
    }
  }
  publish "r" {
    name = local.token
  }
  target "docker" {
    tags    = [local.token]
    command = [local.token]
    output  = local.token
  }
}

image "each" {
  for_each = toset([local.token])
  from     = local.token
}
