node default {
  exec { 'again and again':
    command => '/bin/true',
  }
}
