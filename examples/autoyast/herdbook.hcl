# openSUSE Leap 15.6 by YaST.
image "leap" {
  disk { size = "8G" }
  install "autoyast" {
    location = "https://download.opensuse.org/distribution/leap/15.6/repo/oss/"
    answers  = file("autoinst.xml")
    timeout  = "3h"
  }
  sysprep {}
}
