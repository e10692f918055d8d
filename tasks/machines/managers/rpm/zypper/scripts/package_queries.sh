#!/bin/sh
# What an assessment and a simulation ask zypper. zypper is started three times, and up to three times more if patches
# or updates are pending, packages are locked, or updates are left out. Without --no-refresh every
# start could read the repositories again. A query changes nothing, so it does not wait for zypper's lock
# (ZYPP_READONLY_HACK is libzypp's own switch for that, which users without privileges have).
# Requires: tool_settings
# shellcheck disable=SC2034,SC2154  # rpm_assess.sh uses the first variables; set by tool_settings.sh

lock_files='' # zypp's own is only locked for a moment, while a process writes its pid into it
pid_files=/run/zypp.pid
busy_code=7

ask() { # [--xmlout] COMMAND ARGUMENTS…; in a subshell, which zypper replaces
  zypper_words='--non-interactive --no-refresh' ZYPP_READONLY_HACK=1
  export ZYPP_READONLY_HACK
  [ "$1" != --xmlout ] || { zypper_words="$zypper_words $1"; shift; }
  [ "$1" != locks ] || readable='' # it takes none
  zypper_of_readable "$@"
}

# never with --gpg-auto-import-keys: a new key is a person's decision
read_repositories() { fp_limited "$(fp_param refresh_seconds)" zypper --non-interactive --xmlout refresh; }

# descriptions are most of what zypper writes, and progress is of no use; a question's description is the solver's problem
# shellcheck disable=SC2016  # awk's $, not the shell's
compact='
  /^<progress / { next }
  /^<prompt / { question = 1 }
  question { if (/<\/prompt>/) question = 0; print; next }
  { line = $0
    while (line != "") {
      if (inside) {
        if (!(at = index(line, "</description>"))) { line = ""; break }
        line = substr(line, at + 14); inside = 0
      }
      if (!(at = index(line, "<description>"))) break
      printf "%s", substr(line, 1, at - 1); line = substr(line, at + 13); inside = 1
    }
    print line }'
ask_briefly() { # COMMAND ARGUMENTS…
  # shellcheck disable=SC2086  # options, or nothing
  case $1 in install | update) command=$1; shift; set -- "$command" $solver_options "$@" ;; esac
  said=$(ask --xmlout "$@"); code=$?
  said=$(awk "$compact" <<SAID
$said
SAID
  )
}
say() { printf '%s\n' "$said"; return "$code"; }

# list_elements KNOWN NEWEST: what is told of zypper's XML, each once: "package NAME", "version NAME=VERSION" and "patch NAME"
# of what is pending, "source ALIAS"; "solvable NAME" of what would change and is not among the names KNOWN, "new NAME" of
# what would be installed; "left NAME" of each NAME=VERSION in NEWEST that would not be installed. In place of this shell
list_elements() {
  exec awk -v RS='<' '
    function value(key,   at) { at = index($0, " " key "=\""); return at ? substr($0, at + length(key) + 3, index(substr($0, at + length(key) + 3), "\"") - 1) : "" }
    function put(kind, word) { if (!told[kind, word]++) print kind, word }
    NR == 1 { split($0, lines, "\n"); count = split(lines[1], list, " "); for (k = 1; k <= count; k++) told["solvable", list[k]] = 1; next }
    /^to-install>/ { installs = 1 }
    /^\/to-install>/ { installs = 0 }
    /^source / { put("source", value("alias")) }
    /^(update|solvable) / {
      gsub(/\n/, " "); name = value("name"); solvable = /^solvable /; kind = value(solvable ? "type" : "kind")
      if (name !~ /^[A-Za-z0-9_][A-Za-z0-9_+.:-]*$/ || kind !~ /^(package|patch)$/ || solvable && kind == "patch") next
      put(solvable ? "solvable" : kind, name)
      if (solvable) would[name "=" value("edition")]; else put("version", name "=" value("edition"))
      if (installs) put("new", name) }
    END {
      count = split(lines[2], list, " ")
      for (k = 1; k <= count; k++) if (!(list[k] in would)) { sub(/=.*/, "", list[k]); put("left", list[k]) } }' <<SAID
$1
$2
<
$said
SAID
}
gather() { # KNOWN NEWEST: adds these to the lists names, newest and aliases; sets patches, new and left_out
  patches='' new='' left_out=''
  while read -r kind word; do
    case $kind in
      patch) patches="$patches $word" ;;
      package | solvable) names="$names $word" ;;
      version) newest="$newest $word" ;;
      source) aliases=$aliases$word$fp_newline ;;
      new) new="$new $word" ;;
      left) left_out="$left_out $word" ;;
    esac
  done <<ELEMENTS
$(list_elements "$1" "$2")
ELEMENTS
}
tell() { fp_text_section "$1" "$said" "$code"; } # SECTION

# of zypper info, the lines that matter: a description may have any text, but is indented
facts='
  /^[A-Z][A-Za-z ]*:/ { kept = /^(Requires|Provides|Conflicts) *:/ }
  /^Information for / { kept = 0; print "" }
  /^(Information for|Repository|Name|Version|Arch|Vendor|Status|Source package) *[:a-z]/ || kept'
describe() { ask info "$@" | awk '{ gsub(/\033\[[0-9;]*[A-Za-z]/, "") }'"$facts"; } # some machines have colours always on
part() { # KIND LIST [NAMES]: of $described, all patches or packages, or these, with this list of their dependencies; in place of this shell
  exec awk -v kind="$1" -v list="$2" '
    NR == 1 { count = split($0, word, " "); for (k = 1; k <= count; k++) wanted[word[k]]; next }
    /^Information for / { name = $0; sub(/^Information for [a-z]+ /, "", name); sub(/:$/, "", name); is_part = $3 == kind && (!count || name in wanted) }
    /^(Requires|Provides|Conflicts) *:/ { other = $1 != list && $1 != list ":" }
    /^Information for |^$/ { other = 0 }
    is_part && !other' <<DESCRIBED
${3-}
$described
DESCRIBED
}
# Patches and packages in one question: to start zypper takes longer than to answer. An old one might tell of one kind only.
# shellcheck disable=SC2086  # names have no blanks and no wildcards
describe_all() {
  [ -n "$patches$names" ] || return 0
  described=$(describe ${patches:+--type patch --conflicts} ${names:+--type package --requires} ${lacking:+--provides} $patches $names)
  answer=$described
  if [ -n "$patches" ]; then
    case $described in *'Information for patch '*) ;; *) described=$(describe --type patch --conflicts $patches) ;; esac
    fp_text_section patch_details "$(part patch Conflicts)"
  fi
  [ -n "$names" ] || return 0
  described=$answer
  case $described in *'Information for package '*) ;; *) described=$(describe --requires ${lacking:+--provides} $names) ;; esac
  fp_text_section package_details "$(part package Requires)"
  [ -z "$lacking" ] || fp_text_section new_packages "$(part package Provides "$lacking")"
}

# "alias<tab>priority" of each repository that has another than the default one; in place of this shell
priorities() {
  exec awk '
    /^\[.*\]/ { alias = $0; sub(/^\[/, "", alias); sub(/\].*/, "", alias) }
    /^priority *= *[0-9]/ { number = $0; sub(/^[^=]*= */, "", number); print alias "\t" number + 0 }' "$repositories_folder"/*.repo
}

unpack() { # FILES
  for file; do
    case $file in *.gz) gzip -dc "$file" ;; *.zst) zstd -dcq "$file" ;; *.xz) xz -dc "$file" ;; *.xml) cat "$file" ;; esac
  done 2>/dev/null
}

# "name<tab>epoch<tab>version<tab>release<tab>architecture" of each package of a patch that suggests a reboot, among those
# whose names were installed after the boot. zypper itself says that of a patch as long as the machine lacks it, and no longer
patch_reboots() {
  recent=$(awk -F '\t' -v boot="$(boot_time)" 'boot != "" && $6 > boot + 0 { print $1 }' <<INSTALLED
$installed
INSTALLED
  )
  [ -n "$recent" ] || return 0
  { printf '%s\n<' "$recent"; unpack "$raw"/*/repodata/*updateinfo.xml* | grep -e '<update[ >]' -e '<package ' -e '</package>' -e reboot_suggested -e '</update>'; } |
    awk -v RS='<' '
      function value(key) { return match($0, " " key "=\"[^\"]*\"") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 4) : "" }
      NR == 1 { count = split($0, names, "\n"); for (k = 1; k <= count; k++) recent[names[k]]; next }
      /^update[ >]/ { count = suggests = 0 }
      /^package / { inside = 1; if (value("name") in recent) row[++count] = value("name") "\t" value("epoch") "\t" value("version") "\t" value("release") "\t" value("arch") }
      /^\/package>/ { inside = 0 } # what follows is about the patch as a whole; libzypp does not read that
      /^reboot_suggested>(True|true|1)/ && inside { suggests = 1 }
      /^\/update>/ { for (k = 1; suggests && k <= count; k++) if (!told[row[k]]++) print row[k] }'
}

# "name<tab>architecture<tab>epoch<tab>version<tab>release<tab>bytes<tab>alias<tab>vendor" of each version of these
# packages, from the copies of those repositories that offer updates: zypper itself only tells the sum of the sizes.
# Parameters: ALIASES NAMES, one a line
# shellcheck disable=SC2016  # awk's $, not the shell's
versions() {
  {
    # shellcheck disable=SC2086  # names have no blanks and no wildcards
    printf 'wanted %s\n' $2
    while IFS= read -r alias; do
      printf 'alias %s\n' "$alias"
      find_folder "$alias"
      unpack "$raw/$folder/repodata"/*primary.xml* | grep -E '^ *<(name|arch|version|size|rpm:vendor)[ >]'
    done <<ALIASES
$1
ALIASES
  } | awk '
    function text() { gsub(/^[^>]*>|<.*$/, ""); return $0 }
    function value(key,   at) { at = index($0, " " key "=\""); at = substr($0, at + length(key) + 3); return substr(at, 1, index(at, "\"") - 1) }
    function put() { if (size != "" && name in wanted) print name "\t" arch "\t" version "\t" size "\t" alias "\t" vendor; size = vendor = "" }
    /^wanted / { wanted[$2]; next }
    /^alias / { put(); alias = substr($0, 7); next }
    /<name>/ { put(); name = text(); next }
    !(name in wanted) { next }
    /<arch>/ { arch = text() }
    /<version / { version = value("epoch") "\t" value("ver") "\t" value("rel") }
    /<size / { size = value("package") }
    /<rpm:vendor>/ { vendor = text() }
    END { put() }'
}
# what zypper would do with everything that is pending; a rolling distribution is updated as a whole
find_upgrade_command() { # sets upgrade
  # shellcheck disable=SC1091  # a file of the machine
  case $(. /etc/os-release 2>/dev/null; printf %s "${ID:-}") in
    opensuse-tumbleweed | opensuse-slowroll) upgrade=dup ;;
    *) upgrade=update ;;
  esac
}

find_lacking() { # sets lacking to the names among $new of which no version is installed
  lacking=$(awk -F '\t' '
    NR == 1 { count = split($0, name, " "); next }
    { installed[$1] }
    END { for (k = 1; k <= count; k++) if (!(name[k] in installed)) printf " %s", name[k] }' <<INSTALLED
$new
$installed
INSTALLED
  )
}

assess_tool() {
  readable=$(find_readable)
  ask_briefly list-patches; tell patches
  names='' newest='' aliases=''
  gather '' ''
  pending_patches=$patches
  ask_briefly list-updates --all; tell updates
  names='' newest='' aliases=''
  gather '' ''
  sources=${aliases%"$fp_newline"} pending=$newest
  find_upgrade_command
  [ "$upgrade" != dup ] || pending=''
  ask_briefly "$upgrade" --dry-run; tell upgrade
  gather "$names" "$pending"
  patches=$pending_patches lacking=''
  [ -z "$new" ] || find_lacking
  describe_all
  [ -z "$names" ] || fp_answer versions versions "$sources" "$names"
  # asked for the packages whose newest version the upgrade would not install, zypper says why
  # shellcheck disable=SC2086  # names have no blanks and no wildcards
  [ -z "$left_out" ] || { ask_briefly update --dry-run $left_out; tell obstacles; }
  if [ -e "$locks_file" ] && grep -q '^solvable_name:\|^query_string:' "$locks_file" 2>/dev/null; then
    code=2
    [ -n "$readable" ] || ask_briefly locks --solvables # that reads repositories
    case $code in 0 | 106) ;; *) ask_briefly locks ;; esac # an old zypper does not have that option
    tell locks
  fi
  fp_answer patch_reboots patch_reboots
  fp_answer reboot_suggested fp_rpm_query --whatprovides 'installhint(reboot-needed)'
  fp_text_section repositories "$(repositories)"
  fp_answer priorities priorities
  fp_emit tool upgrade="$upgrade"
}

lock_kept() { # FOLDER: lets zypper read locks of a file there: those of the machine, and those of kept packages
  { cat "$locks_file" 2>/dev/null; fp_param keep | sed 's/.*/\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: &/'; } >"$1/locks"
  # shellcheck disable=SC2086  # files
  { cat $zypp_files 2>/dev/null; printf '[main]\nlocksfile.path = %s/locks\n' "$1"; } >"$1/zypp.conf"
  export ZYPP_CONF="$1/zypp.conf"
}

simulate_tool() { # PACKAGES…
  if [ -n "$(fp_param keep)" ]; then
    folder=$(mktemp -d) || exit 1
    lock_kept "$folder"
  fi
  # shellcheck disable=SC2046  # options, or nothing
  ask_briefly install --dry-run $([ "$(fp_param accept_licences)" != yes ] || echo --auto-agree-with-licenses) \
    $([ "$(fp_param downgrades)" != yes ] || echo --oldpackage) "$@"; fp_section simulation say
  [ -z "$(fp_param keep)" ] || rm -rf "$folder"
  [ -n "$(fp_param keep)" ] || fp_section cached find "$cached" -name '*.rpm' -size +0 -printf '%f\n'
}
