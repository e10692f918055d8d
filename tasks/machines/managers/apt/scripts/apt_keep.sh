#!/bin/sh
# How a job of apt keeps the packages that an installation will replace, so that an undo has them: only files that apt has
# downloaded and verified, of exactly what is installed. See apt_job.sh.
# shellcheck disable=SC2154  # variables of apt_job.sh, apt_kept.sh and transactions.sh

untold() { failure="apt did not tell $1: $(fp_last_line "$FP_JOB_DIR/apt-said")"; } # WHAT

name_file() { # NAME=VERSION: sets arch, and deb to the name that apt gives its file
  # shellcheck disable=SC2016  # dpkg-query's $
  arch=$(dpkg-query -W -f '${Architecture} ${Version}\n' "${1%%=*}" 2>/dev/null | awk -v name="${1%%=*}" -v version="${1#*=}" -v native="$native" \
    '$2 == version && ($1 == native || $1 == "all" || name ~ /:/) { print $1; exit }')
  package=${1%%=*} package=${package%%:*}
  deb=${package}_$(lines "${1#*=}" | sed 's/:/%3a/g')_$arch.deb
}

has_room() { # BYTES: whether that many more stay below the limit, and leave the machine its reserve
  free=$(df -Pk "$fp_kept" "$archives" | awk 'NR > 1 && (least == "" || $4 < least) { least = $4 } END { print least + 0 }')
  [ $((used + $1)) -le "$keep_bytes" ] && [ $((free * 1024 - $1)) -ge "$keep_reserve" ]
}

is_installed_as() { # FILE: whether a package of root's is what is installed (name_file), also by the digests of its content
  # shellcheck disable=SC3067  # every sh of such a machine has -O
  [ -f "$1" ] && [ ! -h "$1" ] && [ -O "$1" ] || return 1
  # shellcheck disable=SC2016  # dpkg-deb's $
  [ "$(dpkg-deb -W --showformat '${Package} ${Version} ${Architecture}' "$1" 2>/dev/null)" = "$package ${spec#*=} $arch" ] || return 1
  dpkg-deb -I "$1" md5sums >"$FP_JOB_DIR/apt-sums" 2>/dev/null || return 0
  sums=$(dpkg-query --control-path "$package$([ "$arch" = all ] || lines ":$arch")" md5sums 2>/dev/null)
  cmp -s "$FP_JOB_DIR/apt-sums" "$sums"
}

store() { # FILE: keeps the file of $spec, or notes that there is no room
  size=$(wc -c <"$1")
  if ! has_room "$size"; then full="$full $spec"; return; fi
  rm -f "$folder/$deb" # of a job that was killed
  if { ln "$1" "$folder/$deb" 2>/dev/null || cp "$1" "$folder/$deb"; } && lines "$spec $(fp_digest "$folder/$deb") $deb" >>"$folder/index"; then
    kept=$((kept + 1)) used=$((used + size))
  else full="$full $spec"; fi
}

get() { # NAME=VERSION…: downloads what there is room for, and keeps it
  fp_apt_get -y --reinstall --print-uris install "$@" >"$FP_JOB_DIR/apt-would" 2>"$FP_JOB_DIR/apt-said" || { untold "where it gets $*"; return; }
  sed -n "s/^'\([^']*\)' \([^ ]*\) \([0-9]*\).*/\2 \3 \1/p" "$FP_JOB_DIR/apt-would" >"$FP_JOB_DIR/apt-uris"
  wanted='' had=$used
  for spec in "$@"; do
    name_file "$spec"
    size=$(awk -v deb="$deb" '$1 == deb { print $2; exit }' "$FP_JOB_DIR/apt-uris")
    if [ -z "$size" ]; then lost="$lost $spec"
    elif has_room "$((used - had + size))"; then wanted="$wanted $spec" used=$((used + size))
    else full="$full $spec"; fi
  done
  used=$had
  [ -n "$wanted" ] || return 0
  # shellcheck disable=SC2086  # a list of words
  run_apt --download-only --reinstall install $wanted
  for spec in $wanted; do
    name_file "$spec"
    from=$archives$deb
    if [ ! -e "$from" ]; then # apt does not copy the files of a repository on the machine itself
      from=$(sed -n "s/^$deb [0-9]* file://p" "$FP_JOB_DIR/apt-uris")
      { [ -f "$from" ] && apt-cache show "$spec" 2>/dev/null | grep -qxF "SHA256: $(fp_digest "$from")"; } || from=''
    fi
    if is_installed_as "$from"; then store "$from"
    elif [ -n "$ended_for" ]; then late="$late $spec"
    else lost="$lost $spec"; fi
  done
}

keep() { # NAME=VERSION…: what their installation replaces
  fp_set_param keep_bytes
  fp_set_param keep_reserve
  kept=0 total=0 lost='' full='' late='' lacking='' ended_for='' archives='' failure=''
  folder=$fp_kept/$keep
  eval "$(apt-config shell archives Dir::Cache::archives/d)"
  (umask 077 && mkdir -p "$folder")
  # shellcheck disable=SC2086  # a word, or none
  if ! { fp_is_private "$fp_kept" && fp_is_private "$folder"; }; then failure="others may write into $folder"
  elif ! fp_apt_get -s -y $removals install "$@" >"$FP_JOB_DIR/apt-would" 2>"$FP_JOB_DIR/apt-said"; then untold 'what the installation replaces'; fi
  [ -z "$failure" ] || { rmdir "$folder" 2>/dev/null; fp_emit kept number:="$number" failure="$failure"; return; }
  true >>"$folder/index"
  used=$(($(du -sk "$folder" | cut -f 1) * 1024))
  # shellcheck disable=SC2013  # words
  for spec in $(awk '$1 == "Inst" && $3 ~ /^\[/ { print $2 "=" substr($3, 2, length($3) - 2) }' "$FP_JOB_DIR/apt-would"); do
    total=$((total + 1))
    name_file "$spec"
    if [ -e "$folder/$deb" ] && cut -d ' ' -f 1 "$folder/index" | grep -qxF -e "$spec"; then kept=$((kept + 1))
    elif fp_is_over "$stop_at" || fp_stop_requested; then late="$late $spec"
    elif is_installed_as "$archives$deb"; then store "$archives$deb"
    else lacking="$lacking $spec"; fi
  done
  # shellcheck disable=SC2086  # a list of words
  [ -z "$lacking" ] || get $lacking
  # this run's folder stays, and the newest other one. Nothing of another run can be under way: this one has the machine
  if [ ! -s "$folder/index" ]; then rm -rf "${folder:?}"
  else
    # shellcheck disable=SC2012  # ids of runs
    ls -1t "$fp_kept" | awk -v mine="$keep" '$0 != mine && ++others > 1' | while IFS= read -r old; do rm -rf "${fp_kept:?}/$old"; done
  fi
  fp_emit kept number:="$number" kept:="$kept" total:="$total" lost="$lost" full="$full" late="$late" failure="$failure"
}
