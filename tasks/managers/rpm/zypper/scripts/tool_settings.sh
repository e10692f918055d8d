#!/bin/sh
# The machine's settings of libzypp, and the options that keep them from changing what an installation means.
# docs/reference/platforms.md has the list.
# shellcheck disable=SC2034  # used by the scripts that this is put before

zypp_settings() { cat /usr/etc/zypp/zypp.conf /usr/etc/zypp/zypp.conf.d/*.conf /etc/zypp/zypp.conf /etc/zypp/zypp.conf.d/*.conf 2>/dev/null; }
setting() { # NAME DEFAULT
  value=$(zypp_settings | sed -n "s/^ *$1 *= *\(.*[^ ]\) *\$/\1/p" | tail -n 1)
  printf '%s\n' "${value:-$2}"
}

# solver.focus = Update would update what a package needs along with it. An older zypper knows neither it nor the option.
solver_options=''
[ -z "$(setting solver.focus '')" ] || solver_options='--solver-focus Job'
