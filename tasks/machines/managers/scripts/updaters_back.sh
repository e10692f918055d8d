#!/bin/sh
# Restores what updaters.sh paused. It is put before that script, and a timer of the machine runs it when the
# lock expires and no controller has come back. The script that uses it must define "tell KIND UNIT KEY TEXT".
# shellcheck disable=SC2034  # used by the scripts that this is put before

manager() { systemctl --no-ask-password --no-pager "$@" </dev/null 3>&- 8>&-; }
look() { # UNIT: sets id, load, active and enabled from systemd; if it gives no answer, they are empty, and shown says why
  id='' load='' active='' enabled=''
  shown=$(manager show -p Id,LoadState,ActiveState,UnitFileState "$1" 2>&1) || return 1
  while IFS='=' read -r key value; do
    case $key in Id) id=$value ;; LoadState) load=$value ;; ActiveState) active=$value ;; UnitFileState) enabled=$value ;; esac
  done <<SHOWN
$shown
SHOWN
}

recall() { # FILE: sets by, boot and units from it: a run, a boot id, and a line "UNIT active|inactive ENABLED" for each
  by='' boot='' units=''
  [ ! -f "$1" ] || { IFS= read -r by; IFS= read -r boot; units=$(cat); } <"$1"
}

give_back() { # UNIT WAS ENABLED: unmask it, and start it if it was active, unless its owner has changed it meanwhile
  why=$(manager unmask --runtime "$1" 2>&1) || { tell failed "$1" why "$why"; return 1; }
  look "$1" || { tell failed "$1" why "$shown"; return 1; }
  if [ "$load" = masked ]; then # masked permanently by its owner during the pause
    tell left "$1" why "its owner has masked it meanwhile"
    return 0
  fi
  if [ "$2" = active ] && [ "$active" != active ]; then
    case ${3:-enabled}.$enabled in # a torn note may lack it: then nothing that is disabled is started
      enabled*.enabled* | [!e]*) ;;
      *) tell left "$1" why "its owner has disabled it meanwhile"; return 0 ;;
    esac
    why=$(manager start "$1" 2>&1) || { tell failed "$1" why "$why"; return 1; }
  fi
  tell back "$1" how "it is as it was"
}

give_all_back() { # FILE: all units in it; the file is removed when all are restored
  whole=true
  while read -r unit was how; do
    [ -z "$unit" ] || give_back "$unit" "$was" "$how" || whole=false
  done <<UNITS
$units
UNITS
  [ "$whole" = false ] || rm -f "$1" "$1.sh"
}
