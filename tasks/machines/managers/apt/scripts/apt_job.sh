# shellcheck shell=sh
# A detached job: download, install, repair or remove, one transaction after the other. Nothing here ends apt or dpkg while
# packages change. A download changes none, so it is ended when its time is over or a stop is requested.
# Parameters: those of transactions.sh, tx_N_packages (list of name=version), tx_N_present (list: the names of them
# that were installed when they were chosen), allowed (list: other packages that may change), excluded (list: masks of
# packages that must not be installed), allow_removals ("yes"), downgrades ("yes"), keep (the run; a download keeps what the
# installation will replace), keep_bytes (at most), keep_reserve (bytes that stay free).
# Its files are beside the job's own: apt-status (apt's progress), apt-began (created again before each change of
# packages), apt-done, and lists.
# Step: install
# Changes: packages: downloads, installs, repairs, removes exactly the chosen ones
# Requires: manager_environment, apt_options, unmet_dependencies, dpkg_query, package_locks, transactions, apt_kept, apt_keep, apt_download, apt_removal, apt_errors
# shellcheck disable=SC2034,SC2154  # variables of transactions.sh, and for it

status=$FP_JOB_DIR/apt-status began=$FP_JOB_DIR/apt-began finished=$FP_JOB_DIR/apt-done
removals=--no-remove
for name in allow_removals allowed excluded keep; do fp_set_param "$name"; done
[ "$allow_removals" != yes ] || removals=

# The scripts of packages get UTF-8, as by hand; some fail on other texts than English without it. What apt and dpkg say stays
# English: there is no translation for this locale.
locale=C
[ "$(LC_ALL=C.UTF-8 locale charmap 2>/dev/null)" != UTF-8 ] || locale=C.UTF-8

lines() { printf '%s\n' "$@"; }
among() { awk 'FILENAME == ARGV[1] { keep[$0]; next } $0 in keep' "$1" -; } # FILE: the lines of stdin that are in it
unread() { lines "unread $1: $(fp_last_line "$FP_JOB_DIR/apt-said")"; } # WHAT: that it is not known, and why: nothing may be changed
without() { awk 'FILENAME == ARGV[1] { drop[$0]; next } $0 != "" && !($0 in drop)' "$1" -; } # FILE: the lines of stdin that are not in it

# ---- progress

# shellcheck disable=SC2016  # awk's $, not the shell's
read_progress='
  /^(pm|dl)status:/ { newest = $0 }
  END {
    count = split(newest, word, ":")
    for (i = 2; i <= count && word[i] !~ /^[0-9]+\.[0-9]+$/; i++) name = name (i > 2 ? ":" : "") word[i]
    if (i > count) exit
    for (j = i + 1; j <= count; j++) action = action (j > i + 1 ? ":" : "") word[j]
    percent = word[i]; if (percent > 100) percent = 100
    if (work == "install") percent = word[1] == "dlstatus" ? percent / 5 : 20 + percent * 4 / 5
    if (word[1] == "dlstatus" || name == "dpkg-exec") name = ""
    printf "%.1f\n%s\n%s\n", percent, name, action
  }'

find_progress() { exec awk -v work="$work" "$read_progress" "$status" 2>/dev/null; }

exec_apt() { # WORDS…
  wait_for=0 # for a lock, in apt itself; after that, apt would change packages without a check for stops and other changes
  case " $* " in
    *' --download-only '*) # run_apt repeats this. A wait until $until would end with the download's time, and hide that it was a lock
      fp_read_time
      [ "$((until - fp_time))" -le 20 ] || wait_for=10 ;;
  esac
  # shellcheck disable=SC2086  # words, or none
  LC_ALL=$locale exec apt-get $fp_apt_options -y -o "DPkg::Lock::Timeout=$wait_for" -o Dpkg::Use-Pty=0 -o APT::Status-Fd=5 -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $pending "$@" 5>>"$status" 3>&-
}

apt_began() { grep -q '^pm' "$status" 2>/dev/null; } # whether apt has changed packages: it reports that from the first package on
# Whether another process's lock kept apt from beginning. apt that has waited for it may say only that it is unable: a
# variable that it never sets decides whether it also shows what it waits for (OpProgress::MajorChange, 1.9.11 and later).
locked_out() { fp_last_words | grep -qE 'Could not get lock|is another process using it' && ! apt_began; }

tell_waiting() {
  fp_tell_waiting "$(fp_last_words | grep -e 'Could not get lock' -e 'is another process' -e 'locked by another' | tail -n 1 | sed 's/^[A-Za-z: ]*: //')"
}

run_apt() { # WORDS…: apt-get, with its progress; a download is ended when its time is over or a stop is requested
  : >"$status"
  rm -f "$finished"
  fp_watch_progress "$status" "$finished" find_progress &
  watcher=$!
  ended_for='' code=100
  fp_limit_lock_wait
  while :; do # apt before 1.9.11 does not wait for dpkg's lock, and no apt waits for the lock of its archives
    case $1 in
      --download-only) fp_while_in_time exec_apt "$@" ;;
      *)
        if [ -n "$wishes" ] && ! fp_look_anew; then break; fi
        : >"$began"
        (exec_apt "$@") ;;
    esac
    code=$?
    if [ "$code" -eq 0 ] || [ -n "$ended_for" ] || ! locked_out; then break; fi
    [ "$(fp_seconds_until "$until")" -ge 3 ] || break
    tell_waiting
    sleep 2
    if fp_stop_requested; then ended_for=stop; break; fi
    if [ -n "$wishes" ] && ! look; then ended_for=unwanted; break; fi # another process has changed packages since the last check
    ! fp_is_over "$until" || break
    fp_mark_log
  done
  : >"$finished"
  fp_end_watch "$watcher"
  return "$code"
}

configure() { # COMMAND…: dpkg --configure of its output; dpkg does not wait for its lock, so it is repeated until $until
  kept_out='' # whether the lock stayed held until then
  while :; do # read the list each time: if another process has configured a package, dpkg reports an error
    todo=$("$@")
    [ -n "$todo" ] || return 0
    from=$(wc -c <"$log")
    : >"$began"
    # shellcheck disable=SC2086  # a list of words
    LC_ALL=$locale dpkg --force-confdef --force-confold --configure $todo 3>&-
    code=$?
    ! tail -c "+$((from + 1))" "$log" | grep -qE '^(Setting up|Processing triggers for) ' || set_up=yes
    [ "$code" -ne 0 ] || return 0
    [ -n "$("$@")" ] || return 0
    tail -c "+$((from + 1))" "$log" | grep -q 'locked by another process' || return "$code"
    [ "$(fp_seconds_until "$until")" -ge 2 ] || { kept_out=yes; return "$code"; }
    tell_waiting
    sleep 2
    [ "$work" = repair ] || continue
    if fp_stop_requested; then ended_for=stop; return "$code"; fi # a repair has not begun yet; an installation has
    fp_mark_log # later errors are not about this lock
  done
}

# ---- installing

unwanted() { # what the installation would do and must not: prints "why detail", or nothing
  # shellcheck disable=SC2086  # words
  lines $names $allowed >"$FP_JOB_DIR/apt-may"
  fp_param "tx_${number}_present" >"$FP_JOB_DIR/apt-present"
  if ! fp_apt_get -s -y install "$@" >"$FP_JOB_DIR/apt-would" 2>"$FP_JOB_DIR/apt-said"; then
    cat "$FP_JOB_DIR/apt-would" "$FP_JOB_DIR/apt-said" >&2 # into the log, for complaint
    lines refused
    return
  fi
  awk -v removals="$removals" '
    FILENAME == ARGV[1] { may[$0]; next }
    FILENAME == ARGV[2] { present[$0]; next }
    $1 == "Remv" || $1 == "Purg" { gone = gone (gone == "" ? "" : ", ") $2 }
    $1 == "Inst" && $3 ~ /^\[/ && !($2 in may) { other = other (other == "" ? "" : ", ") $2 " " substr($3, 2, length($3) - 2) " -> " substr($4, 2) }
    $1 == "Inst" && $3 !~ /^\[/ && $2 in present { anew = anew (anew == "" ? "" : ", ") $2 }
    END {
      if (removals != "" && gone != "") print "removals", gone
      else if (anew != "") print "anew", anew
      else if (other != "") print "unexpected", other
    }' "$FP_JOB_DIR/apt-may" "$FP_JOB_DIR/apt-present" "$FP_JOB_DIR/apt-would" \
    || lines 'unexpected it could not be checked'
  if [ -n "$excluded" ]; then barred | awk '{ printf "%s%s", (NR > 1 ? ", " : "excluded "), $0 } END { if (NR) print "" }'; fi
  [ -s "$FP_JOB_DIR/apt-stuck" ] || return 0
  if ! broken=$(dependent "$@"); then unread 'what depends on packages that failed before'
  elif [ -n "$broken" ]; then lines "$broken" | awk '{ printf "%s%s", (NR > 1 ? ", " : "broken "), $0 } END { print "" }'; fi
}

note_busy() { busy=yes; }

# What would be unpacked and depends on a package that failed before: dpkg could not set it up either. While another process
# changes packages, nothing has failed yet; when it has ended, this is checked again.
dependent() { # WORDS… of the installation; returns 1 if that can't be read
  busy=
  fp_each_holder note_busy /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock
  [ -z "$busy" ] || return 0
  for word; do case $word in /*) dpkg-deb -f "$word" Package Pre-Depends Depends ;; esac; done >"$FP_JOB_DIR/apt-needs" 2>"$FP_JOB_DIR/apt-said"
  awk 'FILENAME == ARGV[1] { if ($1 == "Package:") kept[$2]; next }
    $1 == "Inst" { name = $2; sub(/:.*/, "", name); if (!(name in kept)) print $2 "=" substr($3 ~ /^\[/ ? $4 : $3, 2) }' \
    "$FP_JOB_DIR/apt-needs" "$FP_JOB_DIR/apt-would" >"$FP_JOB_DIR/apt-offered"
  xargs -r apt-cache show <"$FP_JOB_DIR/apt-offered" >>"$FP_JOB_DIR/apt-needs" 2>"$FP_JOB_DIR/apt-said" || return 1
  awk 'FILENAME == ARGV[1] { sub(/:.*/, ""); failed[$0]; next }
    $1 == "Package:" { name = $2 }
    $1 == "Depends:" || $1 == "Pre-Depends:" {
      sub(/^[^:]*: */, ""); count = split($0, words, /[,|] */)
      for (i = 1; i <= count; i++) {
        sub(/[ :(].*/, "", words[i])
        if (words[i] in failed && !((name, words[i]) in told)) { told[name, words[i]]; print name " needs " words[i] }
      }
    }' "$FP_JOB_DIR/apt-stuck" "$FP_JOB_DIR/apt-needs"
}

barred() { # new packages and removals that match an excluded mask
  lines "$excluded" >"$FP_JOB_DIR/apt-masks"
  awk '$1 == "Remv" || $1 == "Purg" || ($1 == "Inst" && $3 !~ /^\[/) { print $2 }' "$FP_JOB_DIR/apt-would" |
    without "$FP_JOB_DIR/apt-names" | while IFS= read -r name; do
      while IFS= read -r mask; do
        # shellcheck disable=SC2254  # a pattern it is
        case $name in $mask) lines "$name (mask $mask)"; break ;; esac
        # shellcheck disable=SC2254
        case ${name%:*} in $mask) lines "$name (mask $mask)"; break ;; esac
      done <"$FP_JOB_DIR/apt-masks"
    done
}

half_done() { # without triggers-awaited: these are settled with the other package, and dpkg refuses to configure them by name
  fp_packages_in unpacked half-configured triggers-pending
}

note_ours() { # what our apt has left half done, when it has just ended, without packages that failed now or before
  half_done >"$FP_JOB_DIR/apt-ours"
  [ -s "$FP_JOB_DIR/apt-ours" ] || return 0
  sed -n 's/^pmerror:\(.*\):[0-9][0-9]*\.[0-9]*:.*/\1/p' "$status" | awk -v native="$native" '{ print; print $0 ":" native; print $0 ":all" }' >"$FP_JOB_DIR/apt-drop"
  cat "$FP_JOB_DIR/apt-stuck" >>"$FP_JOB_DIR/apt-drop"
  without "$FP_JOB_DIR/apt-drop" <"$FP_JOB_DIR/apt-ours" >"$FP_JOB_DIR/apt-ours.new"
  mv -f "$FP_JOB_DIR/apt-ours.new" "$FP_JOB_DIR/apt-ours"
}

the_rest() { half_done | among "$FP_JOB_DIR/apt-ours"; } # without the packages that another process, which has the lock now, has half done

set_up_the_rest() { # one failed package must not leave the others half done
  fp_read_time
  until=$((fp_time + ${lock_wait:-300})) # what has begun is finished, also after the latest start
  configure the_rest
}

waiting() { # what was unpacked before and waits for packages of this transaction: apt was told to set up nothing else
  fp_packages_in unpacked | among "$FP_JOB_DIR/apt-stuck" | fp_depending_on "$FP_JOB_DIR/apt-names"
}

set_up_waiting() { # what still waits for something else is no failure, and a script that fails is one
  fp_read_time
  until=$((fp_time + ${lock_wait:-300}))
  waiting >"$FP_JOB_DIR/apt-waiting"
  configure waiting; code=$?
  [ -n "$(fp_packages_in half-configured | among "$FP_JOB_DIR/apt-waiting")" ] || return 0
  return "$code"
}

note_conffiles() { # right after packages were changed: files kept before or after that may belong to another process
  find /etc -xdev -cnewer "$began" \( -name '*.dpkg-dist' -o -name '*.dpkg-new' -o -name '*.ucf-dist' \) >>"$FP_JOB_DIR/apt-kept" 2>/dev/null
}

kept_conffiles() { # those that still exist: unpacked packages are configured by now
  [ -s "$FP_JOB_DIR/apt-kept" ] || return 0
  sort -u "$FP_JOB_DIR/apt-kept" | while IFS= read -r file; do
    [ ! -e "$file" ] || fp_emit configuration_kept path="${file%.*}" kept_as="$file"
  done
}

# shellcheck disable=SC2086  # words
on_its_own() { apt-mark showauto $names && fp_new_packages $names; } # the transaction's packages that apt has marked as automatic, or that are new

read_stamp() { exec stat -c '%i %y %s' /var/lib/dpkg/status 2>/dev/null; } # dpkg writes it again when it has changed packages; in place of this shell

view=/var/lib/dpkg/fleetpatch-status

set_apart() { # fp_set_apart, unless no package has changed since the last time; sets looked_at to the stamp before it
  looked_at=$(read_stamp)
  [ -n "$looked_at" ] && [ "$looked_at" = "$apart_at" ] || fp_set_apart "$view"
  apart_at=$looked_at
}

look() { # checks before apt installs $wishes; returns 1 if that would do something that is not allowed
  set_apart
  # pending triggers may belong to another process that is active, and are no failure: apt runs them with its own
  # triggers
  fp_packages_in unpacked half-configured >"$FP_JOB_DIR/apt-stuck" 2>"$FP_JOB_DIR/apt-said" || { unwanted=$(unread 'which packages failed before'); return 1; }
  if [ -s "$FP_JOB_DIR/apt-stuck" ]; then
    awk 'FNR == NR { own[$0]; next } { short = $0; sub(/:[^:]*$/, "", short) } !($0 in own) && !(short in own)' \
      "$FP_JOB_DIR/apt-names" "$FP_JOB_DIR/apt-stuck" >"$FP_JOB_DIR/apt-stuck.new"
    mv -f "$FP_JOB_DIR/apt-stuck.new" "$FP_JOB_DIR/apt-stuck"
  fi
  # shellcheck disable=SC2086  # a list of words
  unwanted=$(if [ "$work" = remove ]; then also_removed $wishes; else unwanted $wishes; fi)
  unwanted=${unwanted%%"$fp_newline"*}
  [ -z "$unwanted" ] || return 1
  [ "$work" != remove ] || return 0
  # if a package is named, apt marks it as manually installed: note which ones were automatic
  automatic=$(on_its_own 2>"$FP_JOB_DIR/apt-said") || { unwanted=$(unread 'which packages nobody has chosen'); return 1; }
  pending=
  [ ! -s "$FP_JOB_DIR/apt-stuck" ] || pending='-o DPkg::ConfigurePending=false' # or apt would configure again what failed before
}

not_wanted() { # the record of what look has found
  case $unwanted in
    refused) ended 100 ;;
    *) fp_not_attempted "${unwanted%% *}" "${unwanted#* }" ;;
  esac
}

install() { # NAME=VERSION…
  fp_download_started
  fetch "$@" || return 0
  if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; return; fi
  wishes=$*
  if ! look; then not_wanted; return; fi
  if fp_is_over "$latest"; then fp_not_attempted download ''; return; fi
  fp_transaction_started
  fp_mark_log
  # shellcheck disable=SC2086  # words, or none
  run_apt $without_download $removals install "$@"; result=$?
  if fp_not_begun; then return; fi
  if [ "$ended_for" = unwanted ]; then not_wanted; return; fi
  if [ "$result" -ne 0 ] && ! apt_began; then ended "$result"; return; fi # packages that are half done now are not ours
  note_ours
  note_conffiles
  # before waiting for any lock: marks that another process sets meanwhile must stay
  # shellcheck disable=SC2086  # a list of words
  [ -z "$automatic" ] || apt-mark auto $automatic 3>&-
  if apt_began && [ "$result:$pending" != 0: ]; then # else apt had nothing to do, or has configured everything
    set_up_the_rest; code=$?
    note_conffiles
    # apt reported success: triggers that could not run because another process has the lock are no failure
    [ "$result" -ne 0 ] || [ -n "$kept_out" ] || result=$code
  fi
  if apt_began && [ -n "$pending" ]; then
    set_up_waiting; code=$?
    note_conffiles
    [ "$result" -ne 0 ] || [ -n "$kept_out" ] || result=$code
  fi
  kept_conffiles
  ended "$result"
}

stage() { # NAME=VERSION…
  fp_transaction_started
  download "$@" || return 0
  ended "$result"
  [ -z "$keep" ] || keep "$@"
}

mend() { # WORDS… of apt-get: installs what a repair needs, and removes nothing
  simulated=$(fp_apt_get -s "$@" 2>&1) || lines "$simulated"
  case "
$simulated" in
    *"
Remv "*)
      lines "E: the repair would remove:$(lines "$simulated" | awk '$1 == "Remv" { printf " %s", $2 }')"
      result=100 ;;
    *"
Inst "*) # packages that only needed configuration were just tried
      run_apt --download-only --no-remove "$@"; result=$?
      if [ -n "$ended_for" ] || fp_is_over "$latest"; then
        case $ended_for in stop) why='the run was asked to stop' ;; *) why='its download was not over in time' ;; esac
        lines "E: $why, so that nothing was installed for the repair"
        result=100
      elif [ "$result" -eq 0 ]; then
        # shellcheck disable=SC2046  # a word, or none
        run_apt $(forbid_download --no-remove "$@") --no-remove "$@"; result=$?
        note_conffiles
      fi ;;
  esac
}

# After a power cut, dpkg's database may have a package as unpacked whose files still have the names from before they got
# their places: those of /boot, if that is a file system of its own. To configure such a package is of no use.
displaced() { # prints the names of those packages of apt-half; apt-again gets them with their versions
  : >"$FP_JOB_DIR/apt-again"
  while IFS= read -r package; do
    # shellcheck disable=SC2016  # dpkg-query's $
    dpkg-query -W -f '${Conffiles}\n' "$package" 2>/dev/null | awk '{ print $1 }' >"$FP_JOB_DIR/apt-conffiles"
    dpkg-query -L "$package" 2>/dev/null | without "$FP_JOB_DIR/apt-conffiles" | while IFS= read -r file; do
      [ -e "$file.dpkg-new" ] || continue
      # shellcheck disable=SC2016  # dpkg-query's $
      dpkg-query -W -f '${Package}:${Architecture}=${Version}\n' "$package" >>"$FP_JOB_DIR/apt-again"
      lines "$package"
      break
    done
  done <"$FP_JOB_DIR/apt-half"
}

repair() {
  fp_limit_lock_wait
  fp_transaction_started
  fp_packages_in unpacked half-configured half-installed >"$FP_JOB_DIR/apt-half"
  configure lines --pending; result=$?
  if [ -n "$ended_for" ]; then fp_not_attempted stop 'asked to stop'; return; fi
  note_conffiles
  mend -f install
  again=$(displaced | tr '\n' ' ')
  # shellcheck disable=SC2046,SC2086  # lists of words
  if [ -n "$again" ] && [ -z "$ended_for" ]; then
    if automatic=$(apt-mark showauto $again); then
      mend -f --reinstall install $(cat "$FP_JOB_DIR/apt-again")
      [ -z "$(displaced)" ] || [ -n "$ended_for" ] || mend -f --reinstall install $(displaced) # the newest: their own is not offered
      [ -z "$automatic" ] || apt-mark auto $automatic 3>&-
    fi
    again=$(displaced | tr '\n' ' ')
    [ -z "$again" ] || { lines "E: files of these packages are not in their places, and could not be installed anew: $again"; result=100; }
  fi
  if [ "$ended_for" = stop ] && ! changed_something; then fp_not_attempted stop 'asked to stop'; return; fi
  kept_conffiles
  ended "$result"
}

native=$(dpkg --print-architecture)
transaction() {
  wishes='' pending='' set_up='' apart_at='' names=''
  : >"$status"
  : >"$FP_JOB_DIR/apt-kept"
  [ "$work" = repair ] || set_apart
  fp_set_param "tx_${number}_packages"
  own=$fp_stored
  for package in $own; do names="$names${names:+ }${package%%=*}"; done
  # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
  [ "$downgrades" != yes ] || own=$(fp_with_kept $own)
  # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
  if [ -n "$names" ]; then lines $names; fi >"$FP_JOB_DIR/apt-names"
  # shellcheck disable=SC2086  # as above
  case $work in
    stage) stage $own ;;
    install) install $own ;;
    repair) repair ;;
    remove) remove $names ;;
  esac
  rm -f "$view"
}

fp_each_transaction transaction
