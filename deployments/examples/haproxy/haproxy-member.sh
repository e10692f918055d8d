#!/usr/bin/env bash
# Take a server out of HAProxy before it is patched, and bring it back, through HAProxy's runtime socket.
#
#   haproxy-member.sh drain   BACKEND/SERVER SOCKET…
#   haproxy-member.sh undrain BACKEND/SERVER SOCKET…
#   haproxy-member.sh healthy BACKEND/SERVER SOCKET…
#
# SOCKET is the path of a socket of this machine (it needs socat) or HOST:PORT ("stats socket … level admin"). Name each
# HAProxy that sends requests to the server.
#
#   drain    no new sessions; when the sessions that exist have ended, maintenance. It refuses to take the last server
#   undrain  HAProxy's own health check must first pass anew; then the server gets requests again
#   healthy  succeed if the server gets requests. "level user" is enough for this
#
# All may run twice. `undrain` also brings back a server that a person has put into maintenance.
# WAIT_SECONDS (120) limits each wait, per HAProxy. Exit code 0: done; 1: not done; 2: wrong words.
set -euo pipefail

die() { echo "haproxy-member: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

ask() { # socket, command: what HAProxy answers
  case $1 in
    /*) printf '%s\n' "$2" | timeout 10 socat -t 10 - "UNIX-CONNECT:$1" ;;
    *:*)
      # shellcheck disable=SC2016 # the inner shell's own parameters
      timeout 10 bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf "%s\n" "$3" >&3 && cat <&3' - "${1%:*}" "${1##*:}" "$2" ;;
    *) die "'$1' is neither a path nor HOST:PORT" ;;
  esac || die "HAProxy doesn't answer at $1"
}

change() { # socket, command: HAProxy answers a change with an empty line, and anything else with words
  local said; said=$(ask "$@")
  [ -z "${said//[[:space:]]/}" ] || die "$1: $2: $said"
}

column() { # socket, column: its value for the server
  local table; table=$(ask "$1" 'show stat')
  awk -F, -v backend="$BACKEND" -v server="$SERVER" -v wanted="$2" '
    NR == 1 { sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next }
    $at["pxname"] == backend && $at["svname"] == server { print $at[wanted]; found = 1 }
    END { exit !found }' <<<"$table" || die "HAProxy at $1 has no server $BACKEND/$SERVER"
}

others_up() { # socket: how many other servers of the backend get requests
  local table; table=$(ask "$1" 'show stat')
  awk -F, -v backend="$BACKEND" -v server="$SERVER" '
    NR == 1 { sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next }
    $at["pxname"] == backend && $at["svname"] !~ /^(BACKEND|FRONTEND)$/ && $at["svname"] != server &&
      $at["status"] ~ /^(UP|no check)/ { n++ }
    END { print n + 0 }' <<<"$table"
}

wait_until() { # words of the error, command…
  local until=$((SECONDS + ${WAIT_SECONDS:-120})) what=$1; shift
  until "$@"; do [ $SECONDS -lt $until ] || die "after ${WAIT_SECONDS:-120} s $what"; sleep 0.3; done
}

is_idle() { # socket
  local now queued
  now=$(column "$1" scur) && queued=$(column "$1" qcur) && [ "$now $queued" = '0 0' ]
}
is() { local now; now=$(column "$1" status) && [[ $now =~ ^($2) ]]; } # socket, beginnings of its status

drain() { # socket
  ! is "$1" MAINT || return 0
  [ "$(others_up "$1")" -gt 0 ] || die "$BACKEND/$SERVER is the last server of its backend at $1: it stays"
  change "$1" "set server $BACKEND/$SERVER state drain"
  wait_until "$BACKEND/$SERVER still has sessions at $1" is_idle "$1"
  change "$1" "set server $BACKEND/$SERVER state maint"
}

undrain() { # socket
  local checked
  if ! is "$1" 'UP|no check'; then
    change "$1" "set server $BACKEND/$SERVER state drain"
    checked=$(column "$1" check_status)
    if [ -n "$checked" ]; then # the last result is of before: down, until the check itself says otherwise
      change "$1" "set server $BACKEND/$SERVER health down"
      wait_until "HAProxy's health check of $BACKEND/$SERVER still fails at $1" is "$1" DRAIN
    fi
    change "$1" "set server $BACKEND/$SERVER state ready"
  fi
  wait_until "$BACKEND/$SERVER is not in service at $1" is "$1" 'UP|no check'
}

healthy() { # socket
  is "$1" 'UP|no check' || die "$BACKEND/$SERVER gets no requests from HAProxy at $1: $(column "$1" status)"
}

[ $# -ge 3 ] || usage
verb=$1 BACKEND=${2%%/*} SERVER=${2#*/}; shift 2
case $verb in drain | undrain | healthy) ;; *) usage ;; esac
for socket; do "$verb" "$socket"; done
