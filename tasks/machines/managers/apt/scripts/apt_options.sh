#!/bin/sh
# The options of apt that decide what a command does with packages. Each is set, whatever the machine's apt.conf says, so
# that a simulation and a transaction mean the same on every machine. docs/reference/platforms.md lists them, and what is
# left to the machine. An option that follows on the command line has priority (-s, --download-only, -f, --no-remove).
# With the parameter downgrades ("yes"), versions that are named may be older than the installed ones.
# Source: apt-get(8), apt.conf(5) and doc/examples/configure-index of apt 3.1.

# quiet is a level, and each -q adds one to it
fp_apt_options='
  -o APT::Get::AutomaticRemove=false -o APT::Get::AutomaticRemove::Kernels=false -o APT::Get::Purge=false
  -o APT::Get::Remove=true -o APT::Get::Upgrade=true -o APT::Get::Only-Upgrade=false -o APT::Get::ReInstall=false
  -o APT::Get::Mark-Auto=false -o APT::Get::Fix-Broken=false -o APT::Get::Fix-Missing=false
  -o APT::Get::Fix-Policy-Broken=false -o APT::Get::AutoSolving=true -o APT::Get::CallResolver=true
  -o APT::Get::Simulate=false -o APT::Get::Download-Only=false -o APT::Get::Download=true
  -o APT::Get::Print-URIs=false -o APT::Get::Trivial-Only=false -o APT::Get::Assume-No=false
  -o APT::Get::Force-Yes=false -o APT::Get::Allow-Downgrades=false -o APT::Get::Allow-Remove-Essential=false
  -o APT::Get::Allow-Solver-Remove-Essential=false -o APT::Get::Allow-Change-Held-Packages=false
  -o APT::Ignore-Hold=false -o APT::Force-LoopBreak=false -o DPkg::ConfigurePending=true
  -o quiet=1 -o APT::Color=false'
fp_set_param downgrades
# shellcheck disable=SC2154  # set by fp_set_param
[ "$downgrades" != yes ] || fp_apt_options="$fp_apt_options --allow-downgrades"

# shellcheck disable=SC2086  # words
fp_apt_get() { apt-get $fp_apt_options "$@" </dev/null; } # WORDS…
