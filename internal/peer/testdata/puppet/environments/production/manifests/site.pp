node default {
  include herd
}
