# What is wrong with the block is told once, not once for each instance.
image "base" {
  for_each = toset(["a", "b", "c"])
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "copy" "c" {
    destination = "/srv"
  }
  step "run" "r" {
    script = local.none
  }
  step "hostname" "h" {
    name = each.key == "b" ? "a_b" : "c"
  }
}
