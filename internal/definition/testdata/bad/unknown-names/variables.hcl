variable "x1" {
  default = "a"
}

locals {
  yy = "b"
}
