node default {
  notify { 'before': }
  exec { 'the one that fails':
    command => '/bin/sh -c "echo it says why; exit 3"',
    require => Notify['before'],
  }
  notify { 'behind':
    require => Exec['the one that fails'],
  }
}
