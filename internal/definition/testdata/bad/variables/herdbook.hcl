variable "suite" {
  type = list(string)
}
variable "unset" {}
variable "sizes" {
  default = { a = "1G" }
}
variable "number" {
  type = number
}
variable "flag" {
  type = bool
}
variable "list" {
  type = list(string)
}
variable "mapped" {
  default = { a = "b" }
}
variable "called" {}
variable "typo" {
  type    = strng
  default = "a"
  defalt  = "b"
}
variable "default" {
  type    = number
  default = var.number
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = var.unset
    mirror = "http://${var.unset}"
  }
  # What needs a value that has a problem is no second problem.
  step "password" "p" {
    user     = "root"
    password = var.unset
  }
  step "run" "r" {
    script      = "echo ${var.unset}"
    environment = { A = var.unset }
  }
}
