image "base" {
  disk { size = [4] }
  bootstrap "mmdebstrap" {
    suite      = ["bookworm"]
    mirror     = { a = 1 }
    components = "main"
    include    = ["a", null]
  }
  step "packages" "p" {
    install = { a = "b" }
    update  = "perhaps"
  }
  step "user" "u" {
    name = "deploy"
    uid  = 1.5
  }
  step "user" "large" {
    name = "deploy"
    uid  = 99999999999999999999
  }
  step "run" "r" {
    script      = ["true"]
    environment = ["A=b"]
    network     = "maybe"
    timeout     = ["1m"]
  }
  step "run" "nested" {
    script      = "true"
    environment = { A = ["b"], C = null }
  }
  step "password" "p" {
    user     = "root"
    password = ["a"]
  }
  step "service" "s" {
    name    = "ssh"
    enabled = 1
  }
  test "boots" {
    command "c" {
      run         = true
      exit_status = "zero"
    }
  }
  target "docker" {
    tags = "a:b"
  }
}

repository "r" {
  path        = "repo"
  signing_key = ["a"]
}
