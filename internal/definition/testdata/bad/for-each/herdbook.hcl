image "e0" {
  for_each = ["a", "b"]
  from     = image.base
}

image "e1" {
  for_each = "a"
  from     = image.base
}

image "e2" {
  for_each = toset([1, 2])
  from     = image.base
}

image "e3" {
  for_each = toset(["a", null])
  from     = image.base
}

image "e4" {
  for_each = { "A b" = 1 }
  from     = image.base
}

image "e5" {
  for_each = toset(["x/y", "x y"])
  from     = image.base
}

image "e6" {
  for_each = null
  from     = image.base
}

image "e7" {
  for_each = toset([for i in range(1000) : "${i}a"])
  from     = image.base
}

image "e8" {
  for_each = merge({ for i in range(1000) : "a${i}" => i }, { z = 1 })
  from     = image.base
}

image "e9" {
  for_each = var.none
  from     = image.base
}

image "e10" {
  for_each = image.base
  from     = image.base
}

image "e11" {
  for_each = each.key
  from     = image.base
}

image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
}

image "range" {
  from = image.e99["a"]
}

image "no-each" {
  from = each.value
}
