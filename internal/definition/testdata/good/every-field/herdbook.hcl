repository "internal" {
  path        = "repo"
  signing_key = "keys/images.asc"
}

repository "open" {
  path     = "/srv/open/../images"
  unsigned = true
}

image "base" {
  disk { size = "2048MiB" }
  bootstrap "mmdebstrap" {
    suite        = "trixie"
    mirror       = "https://deb.debian.org/debian"
    components   = ["main", "contrib"]
    variant      = "minbase"
    include      = ["linux-image-cloud-amd64", "sudo"]
    keyring      = "keys/archive.gpg"
    architecture = "amd64"
    refresh      = "never"
  }
  step "packages" "tools" {
    install = ["curl", "nginx=1.22*"]
    remove  = ["nano"]
    update  = true
    timeout = "1h30m"
  }
  step "packages" "less" {
    remove = ["vim-tiny"]
  }
  step "packages" "offline" {
    install = ["curl"]
    network = false
  }
  step "run" "configure" {
    script      = "#!/bin/bash\ntrue\n"
    environment = { TOKEN = env("TOKEN", "2"), CHANNEL = "stable", PORT = 80 }
    network     = true
  }
  step "file" "motd" {
    path    = "/etc/motd"
    content = "Welcome.\n"
    mode    = "0600"
    owner   = "root"
    group   = "adm"
  }
  step "copy" "site" {
    source      = "site"
    destination = "/srv/www"
    owner       = "www-data"
    group       = "33"
  }
  step "copy" "one" {
    source      = "site/index.html"
    destination = "/srv/one.html"
  }
  step "delete" "docs" {
    paths = ["/usr/share/doc/*", "/tmp/{a,b}"]
  }
  step "append_line" "hosts" {
    path = "/etc/hosts"
    line = "10.0.0.1 cow"
  }
  step "chmod" "motd" {
    paths = ["/etc/motd"]
    mode  = "644"
  }
  step "chown" "srv" {
    paths = ["/srv"]
    owner = "deploy"
    group = "100"
  }
  step "duplicate" "motd" {
    source      = "/etc/motd"
    destination = "/etc/motd.old"
  }
  step "move" "motd" {
    source      = "/etc/motd.old"
    destination = "/srv/"
  }
  step "link" "www" {
    target = "srv"
    paths  = ["/www"]
  }
  step "mkdir" "data" {
    paths = ["/srv/data"]
    mode  = "0750"
  }
  step "touch" "marker" { paths = ["/etc/marker"] }
  step "truncate" "logs" {
    paths     = ["/var/log"]
    recursive = true
  }
  step "scrub" "secret" { paths = ["/root/secret"] }
  step "tar_in" "site" {
    source      = "site/index.html"
    destination = "/srv"
  }
  step "edit" "port" {
    path       = "/etc/ssh/sshd_config"
    expression = "s/^#?Port .*/Port 2222/"
  }
  step "firstboot" "register" {
    name     = "register"
    command  = "curl -sf https://example.org/register"
    retries  = 3
    optional = true
  }
  step "firstboot" "tools" {
    name    = "tools"
    install = ["jq"]
  }
  step "firstboot" "script" {
    name   = "script"
    script = "#!/usr/bin/env python3\nprint('moo')\n"
  }
  step "ansible" "plays" {
    playbook       = "plays/web/site.yml"
    directory      = "plays"
    host           = "calf"
    groups         = ["web"]
    extra_vars     = { colour = "red", token = env("ROOT_PASSWORD") }
    vault_password = env("ROOT_PASSWORD", "2")
    tags           = ["a"]
    skip_tags      = ["b"]
    arguments      = ["--diff"]
    user           = "deploy"
    become         = true
    python         = "/usr/bin/python3"
    idempotent     = false
    firmware       = "uefi"
  }
  step "cloud-init" "seed" {
    user_data      = "#cloud-config\n# ${env("ROOT_PASSWORD")}\n"
    meta_data      = "instance-id: i\n"
    network_config = "version: 2\n"
    allow_warnings = true
    firmware       = "uefi"
  }
  step "relabel" "all" {
    exclude = ["/srv"]
    at_boot = true
  }
  step "user" "deploy" {
    name   = "deploy"
    uid    = 1500
    group  = "users"
    groups = ["sudo", "adm"]
    shell  = "/bin/sh"
    home   = "/srv/deploy"
    system = true
  }
  step "password" "root" {
    user     = "root"
    password = env("ROOT_PASSWORD")
  }
  step "password" "hashed" {
    user = "deploy"
    hash = "$6$salt$hash"
  }
  step "password" "locked" {
    user   = "daemon"
    locked = true
  }
  step "ssh_key" "deploy" {
    user = "deploy"
    keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me@here"]
  }
  step "hostname" "name" {
    name = "web.example.org"
  }
  step "timezone" "zone" {
    zone = "Europe/Berlin"
  }
  step "service" "on" {
    name    = "ssh.service"
    enabled = true
  }
  step "service" "off" {
    name    = "apt-daily.timer"
    enabled = false
    masked  = true
  }
  sysprep {
    operations           = ["defaults,-utmp", "user-account"]
    enable               = ["hostname"]
    remove_user_accounts = ["eve"]
    keep_user_accounts   = ["bob", "alice"]
    scripts              = ["true\n"]
    machine_id           = "uninitialized"
    timeout              = "90s"
  }
  test "boots" {
    firmware = "uefi"
    timeout  = "5m"
    command "answers" {
      run         = "systemctl is-system-running"
      expect      = "^running"
      exit_status = 1
    }
    command "silent" {
      run = "true"
    }
  }
  test "boots" {}
  test "clones" {
    firmware = "uefi"
    timeout  = "20m"
    allow    = ["hostname", "random-seed"]
    require  = ["fs-uuids"]
  }
  test "clones" {}
  publish "internal" {}
  publish "open" {
    name = "debian-13"
  }
  target "docker" {}
  target "docker" {
    tags    = ["registry.example.org/web:1.2", "web:latest"]
    command = ["/bin/bash", "-l"]
    output  = "out/docker"
  }
}
