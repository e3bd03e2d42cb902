server ${name} {
%{ for p in ports ~}
  listen ${p};
%{ endfor ~}
  sum ${sha256(name)};
}
