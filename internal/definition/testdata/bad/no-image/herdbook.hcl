# Nothing here.
locals {
  a = 1
}
