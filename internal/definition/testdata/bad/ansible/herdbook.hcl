image "base" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://deb.debian.org/debian"
  }
  step "ansible" "here" { playbook = "herdbook.hcl" }
  step "ansible" "none" { playbook = "none/site.yml" }
  step "ansible" "link" { playbook = "play/site.yml" }
  step "ansible" "other" { playbook = "play/other.yml" }
  step "ansible" "directory" {
    playbook  = "play/site.yml"
    directory = "roles"
  }
  step "ansible" "fields" {
    playbook   = "play/site.yml"
    host       = "a b"
    groups     = ["all", "web-1"]
    extra_vars = { ansible_host = "x", "a-b" = "y" }
    tags       = ["a,b"]
    skip_tags  = ["--x"]
    arguments  = [""]
    user       = "Root"
    python     = "python3"
  }
  step "cloud-init" "empty" { user_data = "" }
}
