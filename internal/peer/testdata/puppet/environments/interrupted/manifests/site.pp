# The server dies while this is applied: the exec waits for it.
node default {
  $server = "/dev/tcp/${facts['herd_server']}/${facts['herd_port']}"
  exec { 'until the server is gone':
    command => "/bin/bash -c 'while (: <${server}) 2>/dev/null; do sleep 0.2; done'",
    timeout => 0,
  }
  -> file { '/run/herd-hello.deb':
    source => 'puppet:///modules/herd/herd-hello.deb',
  }
}
