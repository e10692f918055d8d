#!/bin/sh
# A job: downloads a version of a component, installs it, or puts the version before back. It never reboots, and never ends
# an installation that has begun.
# Parameters: those of transactions.sh; tx_N_component, tx_N_kind, tx_N_package, tx_N_version, tx_N_reference (what the kind's
# own tool calls the version), tx_N_url and tx_N_sha256 (its file; without a URL, the controller has sent it), tx_N_before_url
# and tx_N_before_sha256 (the same for the version that is there: it must be on the machine for the way back), tx_N_command
# (the owner's own installation), tx_N_settings (list of NAME=VALUE), tx_N_keep (list of digests: other files are removed).
# Step: install
# Changes: the component: its packages or files
# Requires: manager_environment, component_files, transactions
# shellcheck disable=SC2034,SC2154  # variables of prelude.sh and transactions.sh

read_order() { # sets a variable for each parameter of this transaction, and folder and file
  for part in component kind package version reference url sha256 before_url before_sha256 command settings keep; do
    fp_set_param "tx_${number}_$part"
    eval "$part=\$fp_stored"
  done
  file='' before_file=''
  fp_component_folder "${FP_JOB_DIR%/*/*}" "$component" || return 1
  [ -z "$sha256" ] || file=$fp_folder/$sha256
  [ -z "$before_sha256" ] || before_file=$fp_folder/$before_sha256
}

download() { # URL FILE
  if command -v curl >/dev/null; then curl -fsSL --retry 2 --connect-timeout 30 -o "$2" -- "$1"
  elif command -v wget >/dev/null; then wget -q -T 30 -O "$2" -- "$1"
  else echo 'neither curl nor wget is on this machine'; return 127; fi
}

# fetch URL FILE DIGEST: whether the file is there; otherwise problem says why, or ended_for that time or a stop ended it
fetch() {
  problem='' ended_for=''
  [ -n "$2" ] && ! fp_has_file "$2" "$3" || return 0
  if [ -z "$1" ]; then problem="fetch: the controller has not sent the file $3"; return 1; fi
  rm -f "$2.part"
  fp_mark_log
  fp_while_in_time download "$1" "$2.part" 3>&-
  fetched=$?
  if [ -n "$ended_for" ]; then rm -f "$2.part"; return 1; fi
  if [ "$fetched" -ne 0 ]; then
    problem="fetch: its download ended with $fetched: $(words)"
  elif [ "$(fp_digest "$2.part")" != "$3" ]; then
    problem="fetch: its file has another digest than $3: it was exchanged, or is damaged"
  elif ! { chmod 600 "$2.part" && mv -f "$2.part" "$2"; }; then
    problem="space: its file can't be stored"
  fi
  [ -z "$problem" ] || { rm -f "$2.part"; return 1; }
}

words() { fp_last_words | grep . | tail -n 3 | cut -c 1-300 | awk '{ printf "%s%s", (NR > 1 ? "; " : ""), $0 }'; }

fetch_all() { # the version that comes, and the one that is there
  [ "$work" = roll-back ] || fetch "$before_url" "$before_file" "$before_sha256" || return 1
  fetch "$url" "$file" "$sha256"
}

with_suffix() { # SUFFIX: a tool tells a file from the name of a package by its suffix; sets named
  named=$fp_folder/install.$1
  rm -f "$named"
  ln "$file" "$named" 2>/dev/null || cp "$file" "$named"
}

wait_seconds() { fp_limit_lock_wait; fp_read_time; echo $((until - fp_time)); }

apt_install() { # WHAT
  DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-remove --allow-downgrades -o "DPkg::Lock::Timeout=$(wait_seconds)" \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$1"
}

rpm_tool_install() { # NAME VERSION
  if command -v zypper >/dev/null; then zypper --non-interactive install --oldpackage "$1=$2"; return; fi
  tool=yum
  ! command -v dnf >/dev/null || tool=dnf
  if [ "$work" = roll-back ]; then "$tool" -y downgrade "$1-$2"; else "$tool" -y install "$1-$2"; fi
}

run_command() { # the owner's own, with the file and the settings
  (
    while IFS= read -r setting; do
      # shellcheck disable=SC2163  # NAME=VALUE
      [ -z "$setting" ] || export "$setting"
    done <<SETTINGS
$settings
SETTINGS
    FLEETPATCH_FILE=$file FLEETPATCH_VERSION=$version FLEETPATCH_COMPONENT=$component
    export FLEETPATCH_FILE FLEETPATCH_VERSION FLEETPATCH_COMPONENT
    cd "$fp_folder" && exec /bin/sh -c "$command"
  )
}

change() {
  case $command:$kind in
    ?*:*) run_command ;;
    :deb) with_suffix deb && apt_install "$named" ;;
    :rpm) with_suffix rpm && rpm -U --oldpackage --replacepkgs "$named" ;;
    :package) if command -v apt-get >/dev/null; then apt_install "$package=$version"; else rpm_tool_install "$package" "$version"; fi ;;
    :snap)
      verb=refresh # which installs nothing anew
      snap list "$package" >/dev/null 2>&1 || verb=install
      snap "$verb" "--revision=$reference" "$package"
      ;;
    :flatpak)
      flatpak info "$package" >/dev/null 2>&1 || flatpak install -y --noninteractive "$package" || return
      flatpak update -y --noninteractive "--commit=$reference" "$package"
      ;;
    *) echo "components of kind $kind can't be installed on this system"; return 2 ;;
  esac
}

remove_old_files() {
  for old in "$fp_folder"/*; do
    kept=${old##*/}
    case "$fp_newline$keep$fp_newline" in *"$fp_newline$kept$fp_newline"*) ;; *) [ ! -f "$old" ] || rm -f "$old" ;; esac
  done
}

transaction() {
  if ! read_order; then fp_transaction_ended 1 failed "failed: $fp_why"; return; fi
  if [ "$work" = stage ]; then fp_transaction_started; else fp_download_started; fi
  if ! fetch_all; then
    fp_not_begun || fp_transaction_ended 1 "${problem%%:*}" "$problem"
    return
  fi
  if [ "$work" = stage ]; then fp_transaction_ended 0 '' ''; return; fi
  if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; return; fi
  if fp_is_over "$latest"; then fp_not_attempted download ''; return; fi
  fp_transaction_started
  fp_mark_log
  change </dev/null 3>&-
  changed=$?
  remove_old_files
  if [ "$changed" -eq 0 ]; then fp_transaction_ended 0 '' ''; else fp_transaction_ended "$changed" failed "failed: $(words)"; fi
}

fp_each_transaction transaction
