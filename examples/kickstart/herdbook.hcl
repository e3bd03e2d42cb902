# AlmaLinux 9 by Anaconda. Fedora, CentOS Stream, Rocky and Red Hat go the same way:
# location is the tree with the .treeinfo.
image "alma" {
  disk { size = "8G" }
  install "kickstart" {
    location = "https://repo.almalinux.org/almalinux/9/BaseOS/x86_64/os/"
    answers  = file("alma.ks")
    timeout  = "3h"
  }
  sysprep {}
}
