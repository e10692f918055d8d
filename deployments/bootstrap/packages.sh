#!/usr/bin/env bash
# Installs the Debian packages that tests and the demo use. Without root or without Debian, it prints what stays untested.
# Missing rights are no error: the tests print what they skip.
#
#   packages.sh [lab] [postgresql] [redis] [browser] [prometheus] [nginx] [shells] [ldap] [oidc] [events] [vm]
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

say() { echo "bootstrap: $*" >&2; }
quietly() { local said; said=$("$@" 2>&1) || { printf '%s\n' "$said" >&2; say "$* failed"; exit 1; }; }
install() { # packages
  quietly apt-get -qq update
  DEBIAN_FRONTEND=noninteractive quietly apt-get -qq -y --no-install-recommends install "$@"
}
install_without_service() { # package: its unit is masked, so that no server starts
  local unit=/etc/systemd/system/$1.service
  mkdir -p "${unit%/*}"
  [ -e "$unit" ] || [ -L "$unit" ] || ln -s /dev/null "$unit"
  install "$1"
}
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
has_postgresql() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }

lab() {
  local why
  if may_install; then
    command -v sysctl >/dev/null || install procps  # a minimal Debian does not have it
    quietly tests/lab/lab.sh deps
  fi
  why=$(tests/lab/lab.sh can 2>/dev/null) || say "without real machines, as the lab can't run here: ${why:-unknown reason}"
}

postgresql() {
  has_postgresql && return
  if may_install; then
    say "installing Debian's postgresql (its programs: the tests start servers of their own)"
    # create_main_cluster=false: do not create or start a server
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/fleetpatch.conf
    install postgresql
    rm -f /etc/postgresql-common/createcluster.d/fleetpatch.conf
  else
    say "without PostgreSQL, as its programs aren't here: history in PostgreSQL stays untested"
  fi
}

browser() {
  ! command -v chromium-headless-shell >/dev/null || ! command -v chromium >/dev/null || return 0
  if may_install; then
    say "installing Debian's chromium, with and without windows (the tests look at pages in it)"
    install chromium chromium-headless-shell
  else
    say "without chromium or chromium-headless-shell: pages and Prefect's UI stay untested"
  fi
}

server_program() { # package, its program, a sentence about its test
  type -P "$2" >/dev/null && return # `command -v` would find a function below
  if may_install; then
    say "installing Debian's $1 (its program: $3)"
    install_without_service "$1"
  else
    say "without $1, as it isn't here: this stays untested: $3"
  fi
}
prometheus() { server_program prometheus prometheus "a test lets it read the metrics"; }
nginx() { server_program nginx /usr/sbin/nginx "a test puts it before the pages"; }
events() {
  [ ! -e /usr/lib/ocf/resource.d/heartbeat/azure-events-az ] || return 0
  if may_install; then
    say "installing Debian's resource-agents (its program that reads Azure's scheduled events reads those of the tests)"
    install resource-agents
  else
    say "without resource-agents: its program for scheduled events stays untested"
  fi
}
ldap() { server_program slapd /usr/sbin/slapd "the tests log in there"; }

redis() {
  local place=build/redis
  server_program redis-server redis-server "Prefect's server sends its messages through it"
  [ ! -d $place/prefect_redis ] || return 0
  if [ -x .venv/bin/pip ]; then
    say "installing prefect-redis from deployments/compose/redis.txt into $place (a test starts Prefect's server with it)"
    quietly .venv/bin/pip install --quiet --no-deps --only-binary :all: --require-hashes --target $place -r deployments/compose/redis.txt
  else
    say "without .venv: Prefect's server stays untested with Redis"
  fi
}

shells() {
  local tool lacking=()
  for tool in busybox fish gawk mawk mksh original-awk zsh; do command -v "$tool" >/dev/null || lacking+=("$tool"); done
  [ ${#lacking[@]} != 0 ] || return 0
  if may_install; then
    say "installing ${lacking[*]} (scripts for machines and the completion are tested with them)"
    install "${lacking[@]}"
  else
    say "without ${lacking[*]}: scripts for machines and the completion stay untested with them"
  fi
}

oidc() {
  local place=build/oidc
  ! command -v node >/dev/null || [ ! -d $place/node_modules/oidc-provider ] || return 0
  if ! command -v npm >/dev/null && may_install; then
    say "installing Debian's nodejs and npm (a provider of logins for the tests runs on it)"
    install nodejs npm
  fi
  if command -v npm >/dev/null; then
    say "installing oidc-provider from its lock into $place (the tests log in there)"
    mkdir -p $place && cp tests/support/oidc/package*.json $place
    quietly npm ci --prefix $place --ignore-scripts --no-audit --no-fund
  else
    say "without npm: logins by OpenID Connect stay untested"
  fi
}

vm() { # Debian's units for libvirt are in another package, libvirt-daemon-system: nothing starts
  local lacking=() of
  for of in qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils libvirtd:libvirt-daemon virsh:libvirt-clients mke2fs:e2fsprogs genisoimage:genisoimage dnsmasq:dnsmasq-base nft:nftables; do
    command -v "${of%%:*}" >/dev/null || lacking+=("${of#*:}")
  done
  [ -e /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so ] || lacking+=(libvirt-daemon-driver-qemu)
  [ ${#lacking[@]} != 0 ] || return 0
  if may_install; then
    say "installing ${lacking[*]} (the tests start virtual machines, under a libvirtd of their own)"
    install "${lacking[@]}"
  else
    say "without ${lacking[*]}: virtual machines stay untested"
  fi
}

for what; do
  case $what in
    lab | postgresql | redis | browser | prometheus | nginx | shells | ldap | oidc | events | vm) "$what" ;;
    *) say "packages.sh knows lab, postgresql, redis, browser, prometheus, nginx, shells, ldap, oidc, events and vm, not '$what'"; exit 2 ;;
  esac
done
