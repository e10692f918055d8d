#!/bin/sh
# Gives back what apt_updaters.sh had rest: put before that script, and run by a timer of the machine's own when the claim
# ends and no controller has come back. Needs "tell KIND UNIT KEY TEXT" from whoever uses it.
# shellcheck disable=SC2034  # used by the scripts that this is put before

manager() { systemctl --no-ask-password --no-pager "$@" </dev/null 3>&- 8>&-; }
property() { printf '%s\n' "$shown" | sed -n "s/^$1=//p"; }
look() { # UNIT: load, active and enabled become what systemd says
  shown=$(manager show -p LoadState,ActiveState,UnitFileState "$1" 2>/dev/null) || return 1
  load=$(property LoadState) active=$(property ActiveState) enabled=$(property UnitFileState)
}

recall() { # FILE: by, boot and units become what it says: a run, a boot id, and "UNIT active|inactive ENABLED" for each
  by='' boot='' units=''
  [ ! -f "$1" ] || { IFS= read -r by; IFS= read -r boot; units=$(cat); } <"$1"
}

give_back() { # UNIT WAS ENABLED: unmask it, and start it if it was active, unless its owner wants it otherwise by now
  why=$(manager unmask --runtime "$1" 2>&1) || { tell failed "$1" why "$why"; return 1; }
  look "$1"
  if [ "$load" = masked ]; then # for good, by its owner, while it rested
    tell left "$1" why "its owner has masked it meanwhile"
    return 0
  fi
  if [ "$2" = active ] && [ "$active" != active ]; then
    case ${3:-enabled}.$enabled in # a note of an older version says nothing of it: then it was enabled, as it usually is
      enabled*.enabled* | [!e]*) ;;
      *) tell left "$1" why "its owner has disabled it meanwhile"; return 0 ;;
    esac
    why=$(manager start "$1" 2>&1) || { tell failed "$1" why "$why"; return 1; }
  fi
  tell back "$1" how "it is as it was"
}

give_all_back() { # FILE: what it says rests in this boot; the file goes when all of it is back
  whole=true
  while read -r unit was how; do
    [ -z "$unit" ] || give_back "$unit" "$was" "$how" || whole=false
  done <<UNITS
$units
UNITS
  [ "$whole" = false ] || rm -f "$1" "$1.sh"
}
