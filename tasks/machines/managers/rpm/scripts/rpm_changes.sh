#!/bin/sh
# What an installation of a job would change, and which of these changes are not allowed. See rpm_job.sh.
# shellcheck disable=SC2034,SC2154  # variables of rpm_job.sh, and for it

is_locked_out() { [ "$code" -eq 7 ] || [ "$code" -eq 200 ]; } # whether the lock of zypper, or of yum or dnf, kept the last check from its work

simulate() { # $wishes: notes the changes as lines "ACTION ID VERSION PACKAGE NAME"; sets code. Waits for a lock until $until
  note_inputs
  simulated=$inputs
  # shellcheck disable=SC2086  # a list of words
  while :; do
    tool_simulate $wishes >"$FP_JOB_DIR/rpm-said" 2>&1; tool_code "$?"; code=$?
    is_locked_out || break
    if [ "$(fp_seconds_until "$until")" -lt 3 ] || fp_stop_requested; then break; fi
    fp_tell_waiting "$(grep -i -e lock -e process "$FP_JOB_DIR/rpm-said" | tail -n 1)"
    sleep 2
  done
  tool_changes <"$FP_JOB_DIR/rpm-said" | awk -v native="$native" '
    { print $1, $2 ($3 == "noarch" || $3 == native ? "" : "." $3), $4, $2 "-" $4 "." $3, $2 }' >"$FP_JOB_DIR/rpm-would" || code=74 # the disk is full
  [ "$code" -eq 0 ] || simulated=''
  return "$code"
}

installed_ids() { # those of the transaction that are installed now
  own=''
  while read -r package; do
    case $package in patch:*) ;; *) own="$own ${package%-*-*}" ;; esac
  done <"$FP_JOB_DIR/rpm-own"
  # shellcheck disable=SC2086  # names have no blanks and no wildcards
  [ -z "$own" ] || fp_rpm_query $own | awk -F '\t' -v native="$native" 'NF >= 7 { print $1 ($5 == "noarch" || $5 == native ? "" : "." $5) }'
}

barred() { # new packages and removals that match an excluded mask
  fp_param excluded | grep . >"$FP_JOB_DIR/rpm-masks" || return 0
  awk 'FILENAME == ARGV[1] { own[$0]; next } { action[$2] = action[$2] " " $1; name[$2] = $5 }
    END { for (id in action) if (!(id in own) && action[id] !~ / (out|down)/) print id, name[id] }' "$FP_JOB_DIR/rpm-names" "$FP_JOB_DIR/rpm-would" | while read -r id name; do
      while IFS= read -r mask; do
        # shellcheck disable=SC2254  # a pattern it is
        case $id in $mask) lines "$id (mask $mask)"; break ;; esac
        # shellcheck disable=SC2254
        case $name in $mask) lines "$id (mask $mask)"; break ;; esac
      done <"$FP_JOB_DIR/rpm-masks"
    done | sort -u
}

unwanted() { # prints "why detail", or nothing
  fp_param allowed >"$FP_JOB_DIR/rpm-may"
  installed_ids >"$FP_JOB_DIR/rpm-installed"
  anew=$(awk 'FILENAME == ARGV[1] { here[$0]; next } NF && !/^patch:/ && !($0 in here) { printf "%s%s", (count++ ? ", " : ""), $0 }' "$FP_JOB_DIR/rpm-installed" "$FP_JOB_DIR/rpm-present")
  [ -z "$anew" ] || { lines "anew $anew"; return; }
  fp_set_param downgrades
  awk -v removals="$removals" -v downgrades="$downgrades" '
    function join(text, more) { return text (text == "" ? "" : ", ") more }
    FILENAME == ARGV[1] || FILENAME == ARGV[2] { may[$0]; if (FILENAME == ARGV[2] && downgrades == "yes") back[$0]; next }
    { version[$1, $2] = $3; ids[$2] }
    END {
      for (id in ids) {
        new = version["down", id] version["in", id]
        if (new == "") gone = join(gone, id) # with a new version, it is an old kernel that goes
        else if ((version["down", id] != "" && !(id in back)) || (version["out", id] != "" && !(id in may))) other = join(other, id " " version["out", id] " -> " new)
      }
      if (removals != "yes" && gone != "") print "removals", gone
      else if (other != "") print "unexpected", other
    }' "$FP_JOB_DIR/rpm-may" "$FP_JOB_DIR/rpm-names" "$FP_JOB_DIR/rpm-would" || lines 'unread its changes are not known'
  fp_has excluded || return 0
  barred=$(barred | list)
  [ -z "$barred" ] || lines "excluded $barred"
}

read_stamp() { fp_rpm_stamp "${rpm_lock%/*}"; }
note_inputs() { # sets inputs to what the answer of a simulation depends on; to nothing where that is not known
  inputs=$(read_stamp) others=$(tool_inputs)
  [ -z "$inputs" ] || inputs="$inputs $others $wishes"
  [ -n "$others" ] || inputs=''
}
is_simulated() { [ -n "$simulated" ] && note_inputs && [ "$simulated" = "$inputs" ]; } # whether another simulation would say the same

# is_downloaded: whether the files of all that $wishes would install are here, and whole: rpm reads their digests. Then no
# start of the tool is needed for that. Sets whole.
is_downloaded() {
  whole=''
  command -v tool_folders >/dev/null && is_simulated || return 1
  folders=$(tool_folders)
  while read -r action _ _ package name; do
    case $action:$name in *:patch:*) continue ;; in:* | down:*) ;; *) continue ;; esac
    print_files "$package" || return 1
  done <"$FP_JOB_DIR/rpm-would" >"$FP_JOB_DIR/rpm-files"
  # xargs calls rpm again for each part of a long list, and fails if one of the calls does
  [ -s "$FP_JOB_DIR/rpm-files" ] && tr '\n' '\000' <"$FP_JOB_DIR/rpm-files" | xargs -0 rpm -K --nosignature >/dev/null 2>&1 || return 1
  whole=yes
}
print_files() { # PACKAGE: the files of a package in all of $folders, which are patterns, one a line; fails if there is none
  case $1 in *-[0-9]*:*) set -- "${1%%-[0-9]*:*}-${1#*-[0-9]*:}" ;; esac # without the epoch
  file=''
  IFS=$fp_newline # a folder may have blanks
  for folder in $folders; do
    [ ! -s "$folder/$1.rpm" ] || { file=$folder/$1.rpm; lines "$file"; }
  done
  unset IFS
  [ -n "$file" ]
}

look() { # checks before the tool installs $wishes; returns 1 if that would do something that is not allowed, or nothing at all
  looked_at=$(read_stamp)
  # shellcheck disable=SC2086  # a list of words
  is_simulated || simulate || { # the reason is now another one than a lock that was waited for before
    unwanted='' held_by=''
    fp_mark_log
    tool_explain $wishes
    return 1
  }
  unwanted=$(unwanted) unwanted=${unwanted%%"$fp_newline"*}
  [ -z "$unwanted" ]
}

refuse() { # after look, with its code: why nothing is installed
  if [ -n "$unwanted" ]; then fp_not_attempted "${unwanted%% *}" "${unwanted#* }"
  elif is_locked_out && fp_stop_requested; then fp_not_attempted stop 'asked to stop'
  else ended "$code"; fi
}

note_old() { awk '$1 == "out" || $1 == "gone" { print $4 }' "$FP_JOB_DIR/rpm-would" >"$FP_JOB_DIR/rpm-old"; } # after the last look

choose_wishes() { # new packages that come by themselves are not named: the tool would note them as chosen by a person
  wishes=$(awk 'FILENAME == ARGV[1] { here[$0]; next } FILENAME == ARGV[2] { name[FNR] = $0; next } name[FNR] in here { printf "%s ", $0 }' \
    "$FP_JOB_DIR/rpm-present" "$FP_JOB_DIR/rpm-names" "$FP_JOB_DIR/rpm-own")
  if [ -n "$wishes" ] && simulate \
    && awk 'FILENAME == ARGV[1] { here[$2]; next } FILENAME == ARGV[2] { here[$0]; next } !($0 in here) { exit 1 }' \
      "$FP_JOB_DIR/rpm-would" "$FP_JOB_DIR/rpm-present" "$FP_JOB_DIR/rpm-names"; then return; fi
  name_all
}
name_all() { # for a download, which notes nothing
  wishes=''
  while read -r package; do wishes="$wishes$package "; done <"$FP_JOB_DIR/rpm-own"
}
