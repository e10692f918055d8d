# shellcheck shell=sh
# A detached job: restarts services that run replaced files, one after the other. A stopped service stays stopped. The
# service manager decides how long a service may take, and nothing here ends a process.
# Parameters: work ("restart"), units (list; "systemd" is process 1, which executes itself anew), keep (list of masks: units that must not go down with another unit),
# latest (epoch seconds of this machine's clock: a unit that has not begun by then is left), locks (list: files that
# are locked while packages change).
# Records: restart_started (unit, at), restart_ended (unit, at, exit_code, active, error), restart_left (unit, at,
# why: window, stop, inactive, oneshot, keep, lock, packages, manager, sessions, login, guests or configuration; detail),
# finished (at).
# Step: validate
# Changes: it restarts services that use replaced files
# Requires: package_locks
# shellcheck disable=SC2154  # parameters, and variables of prelude.sh

trap : HUP INT TERM # a handler, not "ignore": children must not inherit it
# they end with the container or virtual machine that they hold
guests=$(grep -lxE 'conmon|lxc-start|systemd-nspawn|qemu-system-.*|qemu-kvm|kvm|containerd-shim.*|firecracker|cloud-hyperviso|VBoxHeadless' \
  /proc/[0-9]*/comm 2>/dev/null)
set -f              # masks must not expand to file names

for name in latest keep locks; do fp_set_param "$name"; done
manager() { systemctl --no-ask-password --no-pager "$@" </dev/null 3>&-; }
left() { fp_read_time; fp_emit restart_left "unit=$unit" "at:=$fp_time" "why=$1" "detail=${2:-}"; }

taken_along() { # UNIT: all units that go down with it, also indirectly
  along=$1 todo=$1
  while [ -n "$todo" ]; do
    # shellcheck disable=SC2086  # words
    shown=$(manager show -p RequiredBy -p BoundBy -p ConsistsOf -p RequisiteOf -- $todo 2>/dev/null)
    todo=
    for next in $shown; do
      case $next in RequiredBy=* | BoundBy=* | ConsistsOf=* | RequisiteOf=*) next=${next#*=} ;; esac
      [ -n "$next" ] || continue
      case " $along " in *" $next "*) ;; *) along="$along $next" todo="$todo $next" ;; esac
    done
  done
  printf '%s\n' "$along"
}

kept_along() { # UNIT: the first running unit that must not go down, but would
  for each in $(taken_along "$1"); do
    [ "$each" != "$1" ] || continue # the controller has chosen it
    for mask in $keep; do
      # shellcheck disable=SC2254  # a mask
      case $each in $mask) manager is-active --quiet -- "$each" >/dev/null && { printf '%s\n' "$each"; return; } ;; esac
    done
  done
}

find_change() { # who changes packages, or which are half changed: a service that is restarted then may lack some of its files
  fp_obstacle='' fp_who=''
  set +f # the open files of a process are found with a wildcard
  # shellcheck disable=SC2086  # paths are words
  fp_each_holder fp_held $locks
  set -f
  [ -n "$fp_obstacle" ] || fp_unfinished
}

check_logins() { # the unit, KillMode and main pid in variables: the reason and detail why people or guests would lose something
  fp_why='' fp_detail=''
  case $unit in
    ssh.service | sshd.service)
      if [ "$kill_mode" != process ]; then fp_why=sessions fp_detail="KillMode=$kill_mode"
      elif ! fp_detail=$(sshd -t 2>&1); then fp_why=configuration; fi ;;
    *getty@* | console-getty.service)
      fp_detail=''
      { read -r fp_detail <"/proc/$main_pid/comm"; } 2>/dev/null
      [ "$fp_detail" = agetty ] || fp_why=login ;;
    systemd) ;; # it executes itself anew, and ends nothing
    *)
      for file in $guests; do
        file=${file%/comm}
        case ${file#/proc/}:$kill_mode in "$main_pid":*) ;; *:process | *:none) continue ;;
          *) grep -qF "/$unit" "$file/cgroup" 2>/dev/null || continue ;;
        esac
        { read -r fp_detail <"$file/comm"; } 2>/dev/null && fp_why=guests && break
      done ;;
  esac
}

restart() { # the unit, unless there is an obstacle
  if fp_stop_requested; then left stop; return; fi
  fp_ask_time
  if [ "$fp_time" -gt "$latest" ]; then left window; return; fi
  unit_name=$unit
  [ "$unit" != systemd ] || unit_name=init.scope
  shown=$(manager show -p Type -p ActiveState -p KillMode -p MainPID -- "$unit_name" 2>/dev/null) || { left manager; return; }
  active='' type='' kill_mode='' main_pid=''
  while IFS='=' read -r key value; do
    case $key in ActiveState) active=$value ;; Type) type=$value ;; KillMode) kill_mode=$value ;; MainPID) main_pid=$value ;; esac
  done <<SHOWN
$shown
SHOWN
  if [ "$active" != active ]; then left inactive "$active"; return; fi
  if [ "$type" = oneshot ]; then left oneshot; return; fi
  find_change
  if [ -n "$fp_obstacle" ]; then left "$fp_obstacle" "${fp_who% holds *}"; return; fi
  kept=$(kept_along "$unit_name")
  if [ -n "$kept" ]; then left keep "$kept"; return; fi
  check_logins
  if [ -n "$fp_why" ]; then left "$fp_why" "$fp_detail"; return; fi
  fp_read_time
  fp_emit restart_started "unit=$unit" "at:=$fp_time"
  case $unit in
    systemd) error=$(manager daemon-reexec 2>&1); code=$? ;;
    *) error=$(manager try-restart -- "$unit" 2>&1); code=$? ;;
  esac
  printf '%s\n' "$unit: $error"
  fp_read_time
  fp_emit restart_ended "unit=$unit" "at:=$fp_time" "exit_code:=$code" "active=$(manager is-active -- "$unit_name")" "error=$error"
}

for unit in $(fp_param units); do restart; done
fp_read_time
fp_emit finished "at:=$fp_time"
