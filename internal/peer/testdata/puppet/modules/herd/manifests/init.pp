# A role as small as one can be: a package, its configuration, its service.
class herd {
  file { '/var/cache/herd-hello.deb':
    source => 'puppet:///modules/herd/herd-hello.deb',
  }
  -> package { 'herd-hello':
    ensure   => installed,
    provider => 'dpkg',
    source   => '/var/cache/herd-hello.deb',
  }
  -> file { '/etc/herd-hello.conf':
    content => epp('herd/hello.conf.epp'),
  }
  ~> service { 'herd-hello':
    ensure => running,
    enable => true,
  }
}
