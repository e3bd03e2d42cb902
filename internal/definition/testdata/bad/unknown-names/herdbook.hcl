imagee "x" {}

colour = "red"

image {
}

image "two" "labels" {
}

repository "r" {
  path     = "repo"
  unsignet = true
  unsigned = true
}

image "base" {
  colour = "red"
  bootstrap "mmdebstrab" {}
  steps "run" "x" {}
  step "run" {}
  step "pakages" "near" {}
  step "explode" "far" {}
  step "sysprep" "not-a-step" {}
  step "run" "argument" {
    script = "true"
    shell  = "/bin/sh"
  }
  step "run" "near-argument" {
    scrpt = "true"
  }
  step "file" "block" {
    path    = "/a"
    content = ""
    owner {}
  }
  sysprep {
    network = true
  }
  test "boot" {}
  test "boots" {
    comand "x" {}
    firmware = "efi"
  }
  test "clone" {}
  test "clones" {
    firmware = "efi"
    allow    = ["hostnames", "ssh-hostkeys"]
    require  = ["fs-uuid", "ssh-hostkeys"]
    commands = []
  }
  publish "internal" {}
  target "podman" {}
}

image "values" {
  bootstrap "mmdebstrap" {
    suite        = "bookworm"
    mirror       = "http://m"
    variant      = "minbse"
    architecture = "riscv64"
    refresh      = ""
  }
  step "run" "names" {
    script = "${var.x} ${local.y} ${image.basee} ${each.key} ${nothing.here} ${nofunction()} ${uper("a")}"
  }
}
