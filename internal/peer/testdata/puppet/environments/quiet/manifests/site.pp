# Changes nothing. What it is told stands in the name of a resource, and so in reports.
node default {
  exec { "rack ${facts['herd_rack']}, role ${trusted['extensions']['pp_role']}, named ${trusted['certname']}":
    command => '/bin/false',
    unless  => '/bin/true',
  }
}
