locals {
  root  = env("ROOT_PASSWORD", "1")
  parts = jsondecode(env("PARTS"))
}

repository "signed" {
  path        = "repo"
  signing_key = env("SIGNING_KEY")
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "password" "local" {
    user     = "root"
    password = local.root
  }
  step "password" "literal" {
    user     = "daemon"
    password = "in-clear"
  }
  step "password" "trimmed" {
    user     = "deploy"
    password = trimspace(upper(local.root))
  }
  step "run" "environment" {
    script = "true"
    environment = {
      BOTH     = "${env("TOKEN", "2")}:${local.root}"
      ONE      = env("TOKEN", "3")
      SUM      = sha256(local.root)
      PART     = local.parts.password
      TEMPLATE = templatefile("token.tpl", { token = local.root })
      WHOLE    = templatefile("parts.tpl", local.parts)
      # Each has its version, and the order of the names is theirs.
      ORDER = "${env("TOKEN", "1")}${env("ROOT_PASSWORD", "2")}${env("SIGNING_KEY", "1")}"
    }
  }
}
