# Hangs for as long as Puppet itself is there.
node default {
  exec { 'the one that hangs':
    command  => 'parent=$PPID; while kill -0 $parent; do sleep 0.2; done',
    path     => '/usr/bin:/bin',
    provider => 'shell',
    timeout  => 0,
  }
}
