image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "run" "t0" {
    script  = "true"
    timeout = "20"
  }
  step "run" "t1" {
    script  = "true"
    timeout = "1d"
  }
  step "run" "t2" {
    script  = "true"
    timeout = "-5m"
  }
  step "run" "t3" {
    script  = "true"
    timeout = "0s"
  }
  step "run" "t4" {
    script  = "true"
    timeout = "49h"
  }
  step "run" "t5" {
    script  = "true"
    timeout = ""
  }
  step "run" "t6" {
    script  = "true"
    timeout = "soon"
  }
  step "run" "t7" {
    script  = "true"
    timeout = "1h "
  }
  sysprep {
    timeout = "never"
  }
  test "boots" {
    timeout = "1 minute"
  }
}
