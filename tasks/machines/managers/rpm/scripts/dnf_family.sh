#!/bin/sh
# What dnf 4 and dnf 5 have in common. A package_queries.sh that requires this defines: cache_folder; line_end (what a
# --qf must end with); all_versions (options to see what the machine's owner holds back, too);
# dnf_query ARGUMENTS… (runs the tool on its copy of the repositories' data, without a question);
# locked_versions ("FILE:entry" for each lock of a version); hidden_versions (offers that the owner's rules hide,
# or a plugin);
# advisories; restart_names (names of packages after whose update a reboot is wanted); find_release_lock (sets release to the
# release to which the repositories are locked); simulate ARGUMENTS… (sets transaction to lines "---> Package NAME.ARCH [EPOCH:]VERSION-RELEASE will be …",
# "cachedir: …" and errors, and code to the tool's exit code).
# yum uses some of these functions.
# shellcheck disable=SC2154  # variables of package_queries.sh

# fp_advisory_sources FOLDER: "REPOSITORY<tab>true/false" for the newest copy of each repository's data: whether it has
# advisories. The name of a copy's directory is the repository's id and 16 hexadecimal digits.
fp_advisory_sources() {
  fp_with=$fp_newline$(grep -l 'type="updateinfo"' "$1"/*/repodata/repomd.xml 2>/dev/null)$fp_newline
  # shellcheck disable=SC2012  # only the times matter; dnf makes the names
  while IFS= read -r fp_index; do
    [ -n "$fp_index" ] || continue
    fp_id=${fp_index%/repodata/repomd.xml} fp_id=${fp_id##*/} fp_has=false
    case $fp_with in *"$fp_newline$fp_index$fp_newline"*) fp_has=true ;; esac
    printf '%s\t%s\n' "${fp_id%-*}" "$fp_has"
  done <<INDEXES
$(ls -t "$1"/*/repodata/repomd.xml 2>/dev/null)
INDEXES
}

# copies: "REPOSITORY<tab>when its copy was last found to be current (dnf touches a file then), 0 without one<tab>yes: it
# was just being read" for each repository that dnf has a folder of
copies() {
  {
    for fp_folder in "$cache_folder"/*-????????????????/; do
      [ -d "$fp_folder" ] || continue
      fp_id=${fp_folder%/} fp_busy=no
      for fp_temporary in "$fp_id"/tmpdir.*; do
        [ ! -e "$fp_temporary" ] || [ "$(stat -c %Y "$fp_temporary")" -lt "${began:-0}" ] || fp_busy=yes
      done
      printf 'folder %s %s\n' "$fp_busy" "$fp_id"
    done
    exec stat -c '%Y %n' "$cache_folder"/*-????????????????/repodata/* 2>/dev/null
  } | awk '
    $1 == "folder" { state = $2; sub(/^folder [a-z]+ /, ""); busy[$0] = state; folder[++count] = $0; next }
    { at = $1 + 0; sub(/^[0-9]+ /, ""); sub(/\/repodata\/[^\/]*$/, ""); if (at > newest[$0] + 0) newest[$0] = at }
    END { for (k = 1; k <= count; k++) {
      id = folder[k]; sub(/.*\//, "", id); sub(/-[^-]*$/, "", id); print id "\t" newest[folder[k]] + 0 "\t" busy[folder[k]] } }'
}

# fp_cached_packages FOLDER: "BYTES<tab>PATH" of each package file that is downloaded already
fp_cached_packages() { find "${1:-$cache_folder}" -name '*.rpm' -type f -exec stat -c '%s	%n' {} + 2>/dev/null; }

# fp_reboot_suggested FOLDER: "name<tab>epoch<tab>version<tab>release<tab>architecture" of each package, among those whose
# names are installed, for which an advisory suggests a reboot. dnf does not print that.
fp_reboot_suggested() {
  fp_note_updateinfo "$1"
  [ -z "$fp_updateinfo" ] || { fp_print_names; fp_read_updateinfo "$1"; } | awk -v RS='<' "$fp_reboot_suggestions"
}
fp_note_updateinfo() { # FOLDER: sets fp_updateinfo to the files with advisories
  [ "${fp_updateinfo_of-}" != "$1" ] || return 0
  fp_updateinfo='' fp_updateinfo_of=$1
  set -- "$1"/*/repodata/repomd.xml
  [ ! -e "$1" ] || fp_updateinfo=$(awk -v RS='<' '
    FNR == 1 { kind = "" }
    /^data / { kind = $0 }
    /^location / && kind ~ /type="updateinfo"/ {
      sub(/.*href="/, ""); sub(/".*/, ""); folder = FILENAME; sub(/\/repodata\/repomd\.xml$/, "", folder)
      if (!told[folder]++) print folder "/" $0 }' "$@")
}
fp_read_updateinfo() { # FOLDER: what is in them
  fp_note_updateinfo "$1"
  while IFS= read -r fp_file; do
    fp_choose_unpacker "$fp_file"
    [ -z "$fp_file" ] || $fp_unpacker "$fp_file"
  done 2>/dev/null <<FILES
$fp_updateinfo
FILES
}
fp_lacking_unpackers() { # FOLDER: programs that this machine lacks to read the same
  fp_note_updateinfo "$1"
  fp_lacking=''
  while IFS= read -r fp_file; do
    fp_choose_unpacker "$fp_file"
    fp_program=${fp_unpacker%% *}
    case "$fp_lacking " in *" $fp_program "*) continue ;; esac
    command -v "$fp_program" >/dev/null || { fp_lacking="$fp_lacking $fp_program"; printf '%s\n' "$fp_program"; }
  done <<FILES
$fp_updateinfo
FILES
}
fp_choose_unpacker() { # FILE: sets fp_unpacker to the command that prints what is in it
  case $1 in
    *.gz) fp_unpacker='gzip -dc' ;;
    *.xz) fp_unpacker='xz -dc' ;;
    *.zst) fp_unpacker='zstd -dc' ;;
    *.bz2) fp_unpacker='bzip2 -dc' ;;
    *) fp_unpacker='cat' ;;
  esac
}
fp_find_reboot_suggestions() { { fp_print_names; cat; } | awk -v RS='<' "$fp_reboot_suggestions"; } # the same, from a repository's advisories (XML)
fp_print_names() { rpm -qa --qf '%{NAME}\n'; printf '<'; } # of what is installed
# shellcheck disable=SC2016  # awk's $
fp_reboot_suggestions='
    NR == 1 { count = split($0, names, "\n"); for (k = 1; k <= count; k++) installed[names[k]]; next }
    function value(key) { return match(package, " " key "=\"[^\"]*\"") ? substr(package, RSTART + length(key) + 3, RLENGTH - length(key) - 4) : "" }
    /^package / { package = $0 }
    /^\/package>/ { package = "" } # what follows is about the next advisory as a whole; dnf does not read that
    /^reboot_suggested>(True|true|1)/ && package != "" && value("name") in installed {
      row = value("name") "\t" value("epoch") "\t" value("version") "\t" value("release") "\t" value("arch")
      if (!told[row]++) print row }'
said() { printf '%s\n' "$1"; return "${2:-0}"; }

# The tool tells only the advisories about packages that are installed, with their name and architecture. This tells, in
# the form of dnf 4, those about what replaces a package of another name or architecture.
replacements() { # NAME.ARCH of each
  awk '
    function put(name) { if (!told[name]++) print name }
    / will be (installed|an upgrade)$/ { new = $3 }
    / will be an upgrade$/ { upgrades[$3] }
    / will be upgraded$/ { old[$3] }
    / will be obsoleted$/ && new != "" { put(new) }
    END { for (name in upgrades) if (!(name in old)) put(name) }' <<TRANSACTION
$transaction
TRANSACTION
}
other_advisories() {
  fp_names=$(replacements)
  [ -z "$fp_names" ] || { said "$fp_names"; echo '<'; fp_read_updateinfo "$cache_folder"; } | awk -v RS='<' '
    function value(key) { return match($0, " " key "=\"[^\"]*\"") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 4) : "" }
    function body() { sub(/^[^>]*>/, ""); gsub(/^[ \t\n]+|[ \t\n]+$/, ""); return $0 }
    function put(label, text) { if (text != "") printf "%11s: %s\n", label, text }
    NR == 1 { count = split($0, list, "\n"); for (i = 1; i <= count; i++) wanted[list[i]]; next }
    { gsub(/\047/, "\"") }
    /^update / { kind = value("type"); id = severity = date = ""; cves = files = 0 }
    /^id>/ && id == "" { id = body() }
    /^severity>/ { severity = body() }
    /^(issued|updated) / { date = value("date"); if (length(date) == 10) date = date " 00:00:00" }
    /^reference / && value("type") == "cve" { cve[++cves] = value("id") }
    /^package / && (value("name") "." value("arch")) in wanted {
      epoch = value("epoch"); file[++files] = value("name") "-" (epoch == "" ? "" : epoch ":") value("version") "-" value("release") "." value("arch") ".rpm" }
    /^\/update>/ && files {
      put("Update ID", id); put("Type", kind); put("Updated", substr(date, 1, 19)); put("Severity", severity)
      for (i = 1; i <= cves; i++) put("CVEs", cve[i])
      for (i = 1; i <= files; i++) put("Files", file[i]) }'
}

# Each distribution with RPM packages has these. A machine whose repositories have none of them gets no fixes of its own
# distribution: its subscription has ended, or they are switched off.
distribution_repositories() {
  # shellcheck disable=SC2086  # options
  dnf_query -q $all_versions repoquery --available --qf "%{repoid}$line_end" bash glibc openssl-libs rpm systemd
}

details="%{name}|%{epoch}|%{version}|%{release}|%{arch}|%{repoid}|%{downloadsize}|%{source_name}|%{vendor}"

holds() { # "FILE:entry" for each line that locks a version or excludes packages
  locked_versions
  # shellcheck disable=SC2086  # folders have no blanks
  fp_exclusions /usr/share/dnf5/libdnf.conf.d/*.conf /etc/dnf/libdnf5.conf.d/*.conf /etc/dnf/dnf.conf $repository_files
  return 0
}
has_reposdir() { while read -r fp_line; do case $fp_line in reposdir*) return ;; esac; done </etc/dnf/dnf.conf; false; } 2>/dev/null
find_repository_files() { # sets repository_files; the later file wins, as for dnf
  repository_files='' fp_folders=''
  # most machines have no such line, and then no process is started
  if has_reposdir; then
    fp_folders=$(sed -n '/^reposdir *=/{s/^reposdir *= *//;y/,/ /;p;}' /etc/dnf/dnf.conf 2>/dev/null)
    fp_folders=${fp_folders##*"$fp_newline"}
  fi
  for fp_folder in ${fp_folders:-/usr/share/dnf5/repos.d /etc/distro.repos.d /etc/yum/repos.d /etc/yum.repos.d} /etc/dnf/repos.override.d; do
    for fp_file in "$fp_folder"/*.repo; do [ ! -f "$fp_file" ] || repository_files="$repository_files $fp_file"; done
  done
}
# shellcheck disable=SC2086
fp_priorities() { # "REPOSITORY<tab>PRIORITY" for each repository with one; in place of this shell
  [ -z "$repository_files" ] || exec awk '
    /^[ \t]*\[/ { id = $0; sub(/^[ \t]*\[/, "", id); sub(/\].*/, "", id) }
    /^priority[ \t]*=/ { sub(/^[^=]*=[ \t]*/, ""); print id "\t" $1 }' $repository_files # folders have no blanks
}
# fp_exclusions FILE…: "FILE:exclude=patterns" for each of these settings; further lines of a value begin with a blank
fp_exclusions() {
  for fp_file in "$@"; do
    shift
    [ ! -f "$fp_file" ] || set -- "$@" "$fp_file"
  done
  [ "$#" -eq 0 ] || awk '
    function tell() { if (value ~ /[^ \t]/) print file ":" key "=" value; key = value = "" }
    FNR == 1 { tell(); file = FILENAME }
    key != "" && /^[ \t]+[^ \t]/ { value = value " " $0; next }
    /^[ \t]*$/ || /^[#;]/ { next }
    { tell() }
    /^(exclude|excludepkgs|includepkgs)[ \t]*=/ { key = value = $0; sub(/[ \t]*=.*/, "", key); sub(/^[^=]*=[ \t]*/, "", value) }
    END { tell() }' "$@"
}

# chosen ACTIONS: NAME-VERSION.ARCH of each package of the transaction with one of these actions, a regular expression; in
# place of this shell
chosen() {
  case $transaction in *' will be '*) ;; *) return 0 ;; esac
  exec awk -v actions=" will be ($1)\$" '
    /^---> Package / && $0 ~ actions {
      arch = $3; sub(/.*\./, "", arch); package = substr($3, 1, length($3) - length(arch) - 1) "-" $4 "." arch
      if (package ~ /^[A-Za-z0-9_][A-Za-z0-9_.+~^:-]*$/) print package }' <<TRANSACTION # the rest would be an option, or a pattern
$transaction
TRANSACTION
}

assess_new_packages() { # what updates need or are replaced by; kernels are among them, which are installed beside others
  case $transaction in *' will be installed'*) ;; *) return 0 ;; esac
  new=$(chosen installed)
  [ -n "$new" ] || return 0
  # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
  fp_answer new_packages dnf_query -q repoquery --qf "$details$line_end" $new
  fp_answer needed_by needed_by
}
# shellcheck disable=SC2016  # awk's $
needers='
  NR == 1 { count = split($0, names, " "); for (i = 1; i <= count; i++) new[names[i]] = 1; next }
  /^>/ { id = substr($0, 2); full = id; sub(/[|].*/, "", id); sub(/.*[|]/, "", full); list = ""; next }
  /^<[PR]$/ { list = $0; next }
  list == "<P" && full in new { provided[$1] = id }
  list == "<R" { for (i = 1; i <= NF; i++) { word = $i; sub(/^[(]+/, "", word); wants[id, word] = 1; if ($1 !~ /^[(]/) break } }
  END { for (key in wants) { split(key, pair, SUBSEP); if (pair[2] in provided && provided[pair[2]] != pair[1] && !told[provided[pair[2]], pair[1]]++) print provided[pair[2]] "\t" pair[1] } }'
needed_by() { # "NEW.ARCH<tab>NEEDER.ARCH" for each package that needs something of a new one
  # shellcheck disable=SC2046  # as above
  described=$(dnf_query -q repoquery --qf '>%{name}.%{arch}|%{name}-%{evr}.%{arch}\n<P\n%{provides}\n<R\n%{requires}\n%{recommends}'"$line_end" $(chosen 'installed|an upgrade')); code=$?
  # shellcheck disable=SC2086  # as above
  set -- $new
  [ -z "$described" ] || awk "$needers" <<DESCRIBED
$*
$described
DESCRIBED
  return "$code"
}

assess_tool() {
  # without protection: one update that would replace a protected package makes the tool refuse all, and name none
  simulate --setopt=best=False --setopt=protected_packages= --setopt=protect_running_kernel=False upgrade
  find_cache_folder
  cache_folder=${folder:-$cache_folder} # if the owner has moved it
  fp_answer repositories dnf_query -q repolist
  find_repository_files
  fp_text_section advisory_sources "$(fp_advisory_sources "$cache_folder")"
  fp_answer priorities fp_priorities
  fp_text_section copies "$(copies)"
  fp_answer distribution_repositories distribution_repositories
  fp_answer upgrades dnf_query -q repoquery --upgrades --qf "$details$line_end"
  held=$(holds)
  [ -z "$held" ] || fp_text_section holds "$held"
  fp_answer all_upgrades hidden_versions
  fp_answer advisories advisories
  fp_note_updateinfo "$cache_folder"
  fp_text_section other_advisories "$(other_advisories)"
  fp_text_section transaction "$transaction" "$code"
  assess_new_packages
  fp_text_section reboot_suggested "$(fp_reboot_suggested "$cache_folder")"
  fp_text_section lacking_unpackers "$(fp_lacking_unpackers "$cache_folder")"
  fp_text_section restart_names "$(restart_names)"
  find_release_lock
  fp_text_section release_lock "$release"
}
find_cache_folder() { # sets folder to the one that the transaction names, or to nothing
  folder=''
  case $fp_newline$transaction in *"${fp_newline}cachedir: "*)
    folder=${transaction#*cachedir: } folder=${folder%%"$fp_newline"*} ;;
  esac
}

keep_words() { # as arguments of dnf: the package that is installed, "--exclude=NAME" for one that is not
  for name in $keep; do
    if package=$(rpm -q --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n' "$name" 2>/dev/null); then said "$package"; else echo "--exclude=$name"; fi
  done
}
simulate_tool() { # PACKAGE…
  fp_set_param keep
  # shellcheck disable=SC2046  # package names and versions have no blanks and no wildcards
  simulate --best install "$@" $(keep_words)
  fp_text_section simulation "$transaction" "$code"
  files=$(chosen 'installed|an upgrade|a downgrade')
  if [ -z "$keep" ] && [ -n "$files" ]; then
    # not %{location}: newer versions of dnf 4 do not print it
    # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
    fp_answer downloads dnf_query -q repoquery --qf '%{repoid}|%{downloadsize}|%{name}-%{version}-%{release}.%{arch}.rpm'"$line_end" $files
    find_cache_folder
    fp_answer cached fp_cached_packages "$folder"
  fi
}
