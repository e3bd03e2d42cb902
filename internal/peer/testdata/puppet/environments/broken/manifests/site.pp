node default {
  file { '/etc/motd': ensure => file, content => $herd_has_no_such_variable, }
  include herd::that_nobody_wrote
}
