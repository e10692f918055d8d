#!/bin/sh
# Patch a PostgreSQL cluster (a primary and standbys with streaming replication) member by member. Runs as root on a member.
#
#   postgresql-member.sh role      print primary or replica
#   postgresql-member.sh healthy   succeed if this member serves, and streams if it is a standby
#   postgresql-member.sh drain     primary: switch over to a standby, and become a standby of it. Standby: see that the
#                                  primary has another one if it needs one to confirm commits
#   postgresql-member.sh undrain   wait until this member serves again, and has caught up if it is a standby
#   postgresql-member.sh rejoin    for people: make a former primary that went another way a standby (pg_rewind). What
#                                  only this member has is lost
#
# All may run twice: the next call finishes an interrupted switchover. The standby is promoted only after the old
# primary has stopped cleanly and the standby has all that it wrote. Settings, as lines of sh, in /etc/postgresql-member.conf:
#
#   MEMBERS="10.0.0.11 10.0.0.12 10.0.0.13"    # addresses of all members, this one included
#   DATA=/var/lib/postgresql/15/main  SERVICE=postgresql@15-main  PROGRAMS=/usr/lib/postgresql/15/bin
#   LOGIN=switchover                           # role on the other members; its password is in ~postgres/.pgpass
#   WAIT_SECONDS=120                           # limit of each wait
#
# LOGIN needs pg_monitor and "GRANT EXECUTE ON FUNCTION pg_promote"; for rejoin what pg_rewind's documentation names. On every
# member primary_conninfo names all members, with target_session_attrs=read-write: a standby then follows the primary, whichever
# member that is. While a switchover is under way, only this script may promote a member.
set -eu
export LC_ALL=C

MEMBERS='' DATA='' SERVICE='' PROGRAMS='' LOGIN=postgres WAIT_SECONDS=120 OWNER=postgres DATABASE=postgres PORT=5432
PENDING=/var/lib/postgresql-member/switchover # "stopped LSN" or "promoting LSN ADDRESS": a switchover is under way

die() { echo "postgresql-member: $*" >&2; exit 1; }
say() { echo "postgresql-member: $*"; }

settings=${POSTGRESQL_MEMBER:-/etc/postgresql-member.conf}
[ -r "$settings" ] || die "there is no $settings"
# shellcheck source=/dev/null
. "$settings"
[ -n "$MEMBERS" ] && [ -n "$DATA" ] && [ -n "$SERVICE" ] && [ -n "$PROGRAMS" ] || die "$settings lacks MEMBERS, DATA, SERVICE or PROGRAMS"
[ "$(id -u)" = 0 ] || die "it must run as root"

as_owner() { ( cd / && exec runuser -u "$OWNER" -- "$@" ); }
query() { # statement, options of psql: its answer; no answer is a failure
  asked=$1; shift
  as_owner env PGCONNECT_TIMEOUT=5 timeout 30 psql -XAtqw -v ON_ERROR_STOP=1 -d "$DATABASE" -p "$PORT" "$@" -c "$asked" </dev/null
}
here() { query "$1" 2>/dev/null; }
there() { query "$2" -h "$1" -U "$LOGIN" 2>/dev/null; } # address, statement

is_here() { ip -o addr show to "$1" 2>/dev/null | grep -q .; }
others() { for address in $MEMBERS; do is_here "$address" || echo "$address"; done; }
primary() { # the address of another member that is primary
  for address in $(others); do
    [ "$(there "$address" 'SELECT pg_is_in_recovery()')" != f ] || { echo "$address"; return; }
  done
  return 1
}

wait_until() { # words of the error, command…
  why=$1 until=$(($(date +%s) + WAIT_SECONDS)); shift
  until "$@"; do [ "$(date +%s)" -lt "$until" ] || die "after $WAIT_SECONDS s $why"; sleep 0.3; done
}

answers() { here 'SELECT 1' >/dev/null; }
is_standby() { [ "$(here 'SELECT pg_is_in_recovery()')" = t ]; }
is_primary() { [ "$(here 'SELECT pg_is_in_recovery()')" = f ]; }
streams() { [ "$(here "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")" = 1 ]; }
# a standby that was restarted has received nothing before it streams again, but it has replayed what it had
HAS="pg_wal_lsn_diff(GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()),"
received() { [ "$(here "SELECT $HAS '$1') >= 0")" = t ]; } # LSN
be_standby() { as_owner touch "$DATA/standby.signal"; sync "$DATA/standby.signal" "$DATA"; } # from its next start on
start_as_standby() {
  be_standby
  systemctl start "$SERVICE" || die "$SERVICE doesn't start as a standby"
  wait_until "this member doesn't stream from the new primary" streams
}

note() { # words: where the switchover is; it outlives a power cut
  mkdir -p "${PENDING%/*}"; echo "$*" > "$PENDING.new"; sync "$PENDING.new"; mv "$PENDING.new" "$PENDING"; sync "${PENDING%/*}"
}

standbys() { # LSN: addresses of the other members that have all WAL until there
  for address in $(others); do
    [ "$(there "$address" "SELECT pg_is_in_recovery() AND $HAS '$1') > 0")" != t ] ||
      echo "$address"
  done
}

ready_standby() { # the address of a member that streams from here and can be promoted by this one
  here "SELECT host(client_addr) FROM pg_stat_replication WHERE state = 'streaming' ORDER BY flush_lsn DESC" | while read -r address; do
    case " $MEMBERS " in *" $address "*) ;; *) continue ;; esac
    may=$(there "$address" "SELECT pg_is_in_recovery() AND has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')") || continue
    [ "$may" != t ] || { echo "$address"; break; }
  done
}

final_lsn() { # of a server that has stopped cleanly: its last record, which a standby must have
  as_owner "$PROGRAMS/pg_controldata" -D "$DATA" > "$PENDING.control" || die "pg_controldata fails"
  grep -q '^Database cluster state: *shut down$' "$PENDING.control" || die "the primary didn't stop cleanly"
  sed -n 's/^Latest checkpoint location: *//p' "$PENDING.control"; rm -f "$PENDING.control"
}

take_back() { # reason: nothing was promoted, so this member is the primary again
  rm -f "$DATA/standby.signal"; systemctl restart "$SERVICE" || die "$1; and $SERVICE doesn't start again"
  rm -f "$PENDING"; die "$1; this member is the primary again"
}

promote() { # LSN, address: it must become primary; if its answer is lost, ask again what it is
  there "$2" "SET statement_timeout = 0; SELECT pg_promote(true, 20)" >/dev/null || true
  [ "$(there "$2" 'SELECT pg_is_in_recovery()')" = f ]
}

take_up() { # a switchover that has begun: to its end
  read -r stage lsn target < "$PENDING"
  if [ -z "$(primary || true)" ]; then
    if [ "$stage" = stopped ]; then
      until=$(($(date +%s) + 30)) target= # they streamed until the end; no client can write meanwhile
      while [ -z "$target" ] && [ "$(date +%s)" -lt "$until" ]; do target=$(standbys "$lsn" | head -n1); [ -n "$target" ] || sleep 0.3; done
      [ -n "$target" ] || take_back "no standby has all that this member wrote"
      note promoting "$lsn" "$target" # from here on this member is never again primary by itself
    fi
    wait_until "$target isn't primary: look there" promote "$lsn" "$target"
  fi
  start_as_standby
  rm -f "$PENDING"
  say "the primary is $(primary || true) now, and this member is a standby"
}

switch_over() {
  enough=$(here "SELECT current_setting('synchronous_standby_names') = '' OR count(*) > 1
    FROM pg_stat_replication WHERE state = 'streaming'") || die "PostgreSQL doesn't answer here"
  [ "$enough" = t ] || die "with fewer than two standbys that stream, none would be left to confirm commits. This member stays primary"
  target=$(ready_standby)
  [ -n "$target" ] || die "no standby streams from here that $LOGIN may promote: this member stays primary"
  here CHECKPOINT >/dev/null || die "no checkpoint can be made"
  mkdir -p "${PENDING%/*}"
  # a stop while a boot still starts the service would cut the standbys off before they have the last record
  systemctl start "$SERVICE" || die "$SERVICE doesn't start"
  systemctl stop "$SERVICE" || die "$SERVICE doesn't stop"
  lsn=$(final_lsn) || { systemctl start "$SERVICE"; exit 1; }
  note stopped "$lsn"; be_standby
  take_up
}

settle() { # a switchover that a reboot or a lost line has interrupted
  [ -e "$PENDING" ] || return 0
  if [ -e "$DATA/standby.signal" ]; then take_up; return; fi # it can only start as a standby
  systemctl start "$SERVICE" || die "$SERVICE doesn't start" # nothing was promoted, or this member was made primary again
  rm -f "$PENDING"
}

drain() {
  settle
  wait_until "PostgreSQL doesn't answer here" answers
  if is_primary; then switch_over; return; fi
  from=$(primary) || die "no member is primary"
  confirms=$(there "$from" "SHOW synchronous_standby_names") || die "the primary $from doesn't answer"
  [ -n "$confirms" ] || return 0
  # shellcheck disable=SC2046 # one word each
  set -- $(there "$from" "SELECT host(client_addr) FROM pg_stat_replication WHERE state = 'streaming'")
  for address; do is_here "$address" || return 0; done
  die "the primary $from has no other standby to confirm commits: this one stays"
}

undrain() {
  settle
  wait_until "PostgreSQL doesn't answer here" answers
  ! is_primary || return 0
  wait_until "no member is primary" primary >/dev/null
  written=$(there "$(primary)" 'SELECT pg_current_wal_lsn()') || die "the primary doesn't answer"
  wait_until "this standby doesn't stream from the primary (see its log; postgresql-member.sh rejoin helps a member that went another way)" streams
  wait_until "this standby hasn't caught up to $written" received "$written"
}

rejoin() {
  from=$(primary) || die "no other member is primary"
  [ "$(here 'SELECT count(*) FROM pg_stat_replication' || echo 0)" = 0 ] || die "other members stream from this one: it stays"
  systemctl stop "$SERVICE" || die "$SERVICE doesn't stop"
  as_owner "$PROGRAMS/pg_rewind" -D "$DATA" --source-server="host=$from port=$PORT user=$LOGIN dbname=$DATABASE" || die "pg_rewind fails: make this member anew with pg_basebackup"
  rm -f "$PENDING"; start_as_standby
}

role() {
  wait_until "PostgreSQL doesn't answer here" answers
  case $(here 'SELECT pg_is_in_recovery()') in # no answer is no role: a primary that is busy is no replica
    f) echo primary ;;
    t) echo replica ;;
    *) die "PostgreSQL doesn't answer here" ;;
  esac
}

healthy() {
  answers || die "PostgreSQL doesn't answer here"
  is_primary || streams || die "this standby doesn't stream"
}

alone() { # one at a time: after a lost line the one before may still run. What it began keeps the lock, too
  exec 9> /run/postgresql-member.lock
  flock -w "$WAIT_SECONDS" 9 || die "after $WAIT_SECONDS s another postgresql-member.sh still runs"
}

case ${1:-} in
  role | healthy) "$1" ;;
  drain | undrain | rejoin) alone; "$1" ;;
  *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
