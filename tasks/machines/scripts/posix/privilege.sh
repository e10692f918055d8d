#!/bin/sh
# Reports, as the login itself, how it becomes root without a password. Record: privilege.
# Step: connect
# Changes: nothing

uid=$(id -u)
sudo=absent doas=absent terminal=false sudo_said='' doas_said=''
if [ "$uid" != 0 ]; then
  if command -v sudo >/dev/null; then
    if sudo_said=$(sudo -n -- /bin/sh -s 2>&1 </dev/null); then sudo=yes; else sudo=no; fi
    # requiretty: sudo requires a terminal, and script gives it one
    case $sudo_said in *'you must have a tty'*)
      if command -v script >/dev/null; then
        terminal=true
        if sudo_said=$(SHELL=/bin/sh script -qec 'sudo -n -- /bin/sh -s <&3 >&4 2>&5' /dev/null \
          3</dev/null 4>&1 5>&1 </dev/null >/dev/null 2>&1); then sudo=yes; fi
        case $sudo_said in *'you must have a tty'*) terminal=false ;; esac
      fi ;;
    esac
  fi
  if [ "$sudo" != yes ] && command -v doas >/dev/null; then
    if doas_said=$(doas -n /bin/sh -s 2>&1 </dev/null); then doas=yes; else doas=no; fi
  fi
fi
fp_emit privilege "uid:=$uid" "user=$(id -un)" "sudo=$sudo" "terminal:=$terminal" "sudo_said=$sudo_said" "doas=$doas" "doas_said=$doas_said"
