# The command line goes before the environment, that before files, those before the default.
variable "line" {
  default = "fourth"
}
variable "outside" {
  type        = string
  description = "set by the environment"
}
variable "file" {
  default = "fourth"
}
variable "both" {}
variable "default" {
  default = "fourth"
}
variable "nothing" {
  type    = string
  default = null
}
variable "names" {
  default = ["a", "b"]
}
variable "sizes" {
  default = { bookworm = "2G", sid = "4G" }
}
variable "on" {
  type    = bool
  default = false
}
variable "number" {
  default = 1
}
variable "typed" {
  type    = object({ name = string, deep = list(number) })
  default = { name = "n", deep = [1, 2] }
}

locals {
  # Their order says nothing, nor does the block.
  all  = join(" ", [local.half, var.default, var.both])
  half = "${var.line} ${local.rest}"
}
locals {
  rest = join(" ", [var.outside, var.file])
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "run" "all" {
    script = local.all
  }
  step "user" "typed" {
    name   = var.typed.name
    uid    = var.number
    groups = var.names
    system = var.on
    shell  = var.nothing
  }
  step "run" "sizes" {
    script = jsonencode(var.sizes)
  }
  step "run" "deep" {
    script = "${var.typed.deep[1]}"
  }
}
