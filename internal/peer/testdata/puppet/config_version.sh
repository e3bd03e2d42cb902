#!/bin/sh
# What Puppet calls the version of a catalogue: as of a file that tests write.
cat "$(dirname "$0")/environments/$1/version"
