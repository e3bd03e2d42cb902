# What an error tells of a value could be a secret.
locals {
  token = env("TOKEN")
  whole = { a = local.token }
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "password" "p0" {
    user     = "root"
    password = file(env("TOKEN"))
  }
  step "password" "p1" {
    user     = "root"
    password = templatefile(local.token, {})
  }
  step "password" "p2" {
    user     = "root"
    password = env(env("TOKEN"))
  }
  step "password" "p3" {
    user     = "root"
    password = env("TOKEN", local.token)
  }
  step "password" "p4" {
    user     = "root"
    password = tostring(tonumber(local.token))
  }
  step "password" "p5" {
    user     = "root"
    password = tobool(env("TOKEN"))
  }
  step "password" "p6" {
    user     = "root"
    password = regex("[${local.token}", "a")
  }
  step "password" "p7" {
    user     = "root"
    password = { for t in [local.token, local.token] : t => 1 }
  }
  step "password" "p8" {
    user     = "root"
    password = { a = 1 }[local.token]
  }
  step "password" "p9" {
    user     = "root"
    password = jsondecode(upper(local.token))
  }
  step "password" "p10" {
    user     = "root"
    password = format(local.token, 1)
  }
  step "password" "p11" {
    user     = "root"
    password = local.token + 1
  }
  step "password" "p12" {
    user     = "root"
    password = templatefile("leak.tpl", {})
  }
  step "password" "p13" {
    user     = "root"
    password = templatefile("leak.tpl", { "${local.token}" = 1 })
  }
  step "password" "p14" {
    user     = "root"
    password = local.whole.none
  }
  step "password" "p15" {
    user     = "root"
    password = "${local.token} ${var.none}"
  }
  step "password" "p16" {
    user     = "root"
    password = env("UNSET")
  }
  step "password" "p17" {
    user     = "root"
    password = env("UNSET", "1", "2")
  }
  step "password" "p18" {
    user     = "root"
    password = env("TOKEN")[0]
  }
  step "password" "p19" {
    user     = "root"
    password = values(local.token)
  }
  step "password" "p20" {
    user     = "root"
    password = [for t in local.token : t]
  }
  step "password" "n0" {
    user     = "root"
    password = env("")
  }
  step "password" "n1" {
    user     = "root"
    password = env("A B", "1")
  }
  step "password" "n2" {
    user     = "root"
    password = env("TOKEN", "1+2")
  }
}
