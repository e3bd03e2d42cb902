image "kind" {
  install "kickstarter" {}
}

image "none" {
  install "preseed" {
    answers = "x"
  }
}

image "half" {
  install "preseed" {
    kernel  = "linux"
    answers = "x"
  }
}

image "both" {
  install "preseed" {
    location = "http://mirror.invalid/"
    kernel   = "linux"
    initrd   = "initrd"
    answers  = "x"
  }
}

image "autoinstall-tree" {
  install "autoinstall" {
    location = "http://mirror.invalid/"
    answers  = "x"
  }
}

image "sums" {
  install "kickstart" {
    location        = "netinst.ISO"
    kernel_checksum = "sha256:12"
    answers         = "x"
  }
}

image "tree-sum" {
  install "kickstart" {
    location = "http://mirror.invalid/os"
    checksum = sha256("x")
    answers  = "poweroff"
  }
}

image "fetched" {
  install "preseed" {
    kernel  = "http://mirror.invalid/linux"
    initrd  = "file:///initrd"
    answers = "x"
  }
}

image "addresses" {
  install "preseed" {
    location = "ftp://mirror.invalid/debian"
    answers  = "x"
  }
}

image "password" {
  install "preseed" {
    location = "http://user:hush@mirror.invalid/debian"
    answers  = "x"
  }
}

image "values" {
  install "preseed" {
    location     = ""
    answers      = "x"
    arguments    = ["", "a\nb"]
    files        = { "late.sh" = "herdbook.hcl", "/a/../b" = "herdbook.hcl", "/c" = "missing" }
    mirror_proxy = "proxy"
    refresh      = "weekly"
    firmware     = "efi"
    memory       = "lots"
    timeout      = "soon"
    keyring      = 3
  }
}

image "secret" {
  install "preseed" {
    location  = "http://mirror.invalid/debian"
    answers   = " \n"
    arguments = [env("TOKEN")]
  }
}

image "waits" {
  install "kickstart" {
    location = "http://mirror.invalid/os"
    answers  = "halt\n# poweroff"
  }
}

image "no-profile" {
  install "autoyast" {
    location = "http://mirror.invalid/suse"
    answers  = "x"
  }
}

image "disk-of-import" {
  disk { size = "4G" }
  import {
    path     = "a"
    url      = "b"
    checksum = "c"
    format   = "exe"
  }
}

image "import-url" {
  import {
    url      = "disk.qcow2"
    checksum = sha256("x")
  }
}

image "two" {
  import {
    path     = "a"
    checksum = sha256("x")
  }
  install "preseed" {
    location = "http://mirror.invalid/"
    answers  = "x"
  }
}

image "poweroff-in-a-script" {
  install "kickstart" {
    location = "http://mirror.invalid/os"
    answers  = "lang en_US\n%post\npoweroff\n%end\n"
  }
}

image "poweroff-elsewhere" {
  install "kickstart" {
    location = "http://mirror.invalid/os"
    answers  = "lang en_US\n%include /tmp/rest\n"
  }
}

image "secret-proxy" {
  install "preseed" {
    location     = "http://mirror.invalid/"
    answers      = "x"
    mirror_proxy = "http://user:password@proxy.invalid:3128"
    files        = { "/preseed.cfg" = "herdbook.hcl" }
  }
}

image "nothing-to-refresh" {
  install "autoinstall" {
    location = "disc.iso"
    checksum = sha256("x")
    answers  = "autoinstall:"
    refresh  = "always"
  }
}
