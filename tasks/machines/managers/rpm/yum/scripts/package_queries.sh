#!/bin/sh
# What an assessment and a simulation ask yum 3. It works from its copy of the repositories' data (-C). Its answers are
# written in the form of dnf 4's (see dnf_family.sh), so that both have the same parsers. yum is started six times, and
# once more each if packages are held, if updates need new packages, if a fix is no update for yum, and with "refresh". repoquery (of yum-utils) adds
# sizes, vendors and source packages; without it, they are not known. needs-restarting is not asked: it reads from the
# network, and the assessment has the same facts.
# shellcheck disable=SC2034,SC2154  # used by, or set by, the scripts that this is put before
# Requires: dnf_family, tool_settings

lock_files=''
pid_files=/var/run/yum.pid
busy_code=200

yum_cache=$(sed -n 's/^cachedir *= *\([^$]*\).*/\1/p' /etc/yum.conf 2>/dev/null | tail -n 1)
yum_cache=${yum_cache:-/var/cache/yum}
yum_journals=/var/lib/yum

# call COMMAND…: ends with busy_code if another process has yum's lock; yum has the same code for all failures
call() {
  { complaints=$("$@" 2>&1 >&4 4>&-); code=$?; } 4>&1
  [ -z "$complaints" ] || said "$complaints" >&2
  case $complaints in *'holding the yum lock'* | *'Existing lock '*) [ "$code" -eq 0 ] || code=$busy_code ;; esac
  return "$code"
}
skip_unread='--setopt=*.skip_if_unavailable=1' # a repository without a copy must not keep the others from being used
# the plugin would ask the subscription's server each time; its repositories are in a file
# shellcheck disable=SC2086  # options
ask() { fp_until_unlocked call yum -C -e 2 --disableplugin=subscription-manager --setopt=exit_on_lock=1 $tool_settings "$@"; }
all_versions='--disableexcludes=all --disableplugin=versionlock,foreman-protector' # also those that the machine's owner holds back

# yum names a repository that it can't read, and reads no more. Then all are read again without that one.
read_repositories() {
  without=''
  while :; do
    # shellcheck disable=SC2086  # options
    left=$(fp_param refresh_seconds) left=${left:+$((left - $(fp_now) + began))}
    case $left in 0 | -*) left=1 ;; esac # of all calls together
    # shellcheck disable=SC2086  # options
    answer=$(call fp_limited "$left" yum -d 2 -e 2 --setopt=exit_on_lock=1 --assumeno $without makecache 2>&1); code=$?
    said "$answer"
    failed=$(said "$answer" | sed -n 's/^ *yum --disablerepo=\([^ ]*\) \.\.\.$/\1/p
      s/^Cannot find a valid baseurl for repo: \([^/ ]*\).*/\1/p
      s/^Cannot retrieve metalink for repository: \([^/ ]*\).*/\1/p' | grep -v '^<' | tail -n 1)
    case $code:$failed in 0:* | *: | *[!A-Za-z0-9._:-]*) return "$code" ;; esac
    case "$without " in *" --disablerepo=$failed "*) return "$code" ;; esac
    without="$without --disablerepo=$failed"
  done
}

repositories() { # the ids of those that are enabled: "repo id" has "ID/RELEASE/ARCHITECTURE", after marks
  answer=$(ask -d 2 repolist); code=$?
  case $code in
    0 | "$busy_code") ;;
    *) answer=$(ask -d 2 "$skip_unread" repolist); code=$? ;; # without those that it has never read
  esac
  said "$answer" | awk '/^repolist: / { exit } seen { sub(/^[!*]+/, ""); sub(/[\/ ].*/, ""); print } /^repo id / { seen = 1 }'
  return "$code"
}

advisory_sources() { # "REPOSITORY<tab>true/false", the newest copy first: whether it has advisories
  find "$yum_cache" -name repomd.xml -type f -exec ls -t {} + 2>/dev/null | while IFS= read -r index; do
    id=${index%/repomd.xml} has=false
    ! grep -q 'type="updateinfo"' "$index" || has=true
    printf '%s\t%s\n' "${id##*/}" "$has"
  done
}

copies() { # as in dnf_family.sh; yum touches a file when it finds its copy to be current
  find "$yum_cache" -name cachecookie -type f -exec stat -c '%Y %n' {} + 2>/dev/null | while read -r at file; do
    id=${file%/cachecookie}
    printf '%s\t%s\tno\n' "${id##*/}" "$at"
  done
}

holds() { # "FILE:entry" for each line that locks a version or excludes packages; "EPOCH:NAME-…" becomes "NAME-EPOCH:…"
  settings=/etc/yum/pluginconf.d/versionlock.conf
  if grep -qiE '^enabled *= *(1|yes|true)' "$settings" 2>/dev/null; then
    list=$(sed -n 's/^locklist *= *\(file:\/\/\)\{0,1\}\(\/[^ ]*\).*/\2/p' "$settings" | tail -n 1)
    sed -n -e 's/^\(!\{0,1\}\)\([0-9][0-9]*\):\(.*\)-\([^-]*-[^-]*\)$/\1\3-\2:\4/' \
      -e 's/^[[:space:]]*\([^#[:space:]].*\)/versionlock.list:\1/p' "${list:-/etc/yum/pluginconf.d/versionlock.list}" 2>/dev/null
  fi
  grep -HE '^[[:space:]]*(exclude|includepkgs)[[:space:]]*=[[:space:]]*[^[:space:]]' /etc/yum.conf /etc/yum.repos.d/*.repo 2>/dev/null
  return 0
}

# Lists of yum have three words in a row: name with architecture, version, repository. A row of long words has several
# lines. The form of the result is that of $details.
# shellcheck disable=SC2016  # awk's $
rows='
  /^[A-Z][a-z]+( [A-Z][a-z]+)* Packages *$/ { inside = $1 == wanted; count = 0; next }
  /^[^ ]/ { count = 0 }
  inside {
    for (i = 1; i <= NF; i++) word[++count] = $i
    if (count != 3 || word[1] !~ /\./ || word[2] !~ /-/) next
    arch = name = word[1]; sub(/.*\./, "", arch); sub(/\.[^.]*$/, "", name)
    epoch = "0"; version = word[2]; if (sub(/^[0-9]+:/, "", version)) epoch = substr(word[2], 1, length(word[2]) - length(version) - 1)
    release = version; sub(/.*-/, "", release); sub(/-[^-]*$/, "", version)
    print name "|" epoch "|" version "|" release "|" arch "|" word[3] "|||"
    count = 0
  }'
list_packages() { # SECTION WORDS…
  wanted=$1; shift
  answer=$(ask -d 0 "$skip_unread" "$@"); code=$?
  said "$answer" | awk -v wanted="$wanted" "$rows"
  return "$code"
}

details='%{name}|%{epoch}|%{version}|%{release}|%{arch}|%{repoid}|%{packagesize}|%{base_package_name}|%{vendor}'
query() { # FORMAT PACKAGES…: of all their versions
  format=$1; shift
  fp_until_unlocked call repoquery -C --plugins --show-duplicates --setopt=exit_on_lock=1 "$skip_unread" --qf "$format" "$@"
}
distribution_repositories() { # as in dnf_family.sh
  answer=$(query '%{repoid}' bash glibc openssl-libs rpm systemd); code=$?
  said "$answer" | sort -u
  return "$code"
}
describe() { # PACKAGES…: rows of all their versions
  if ! command -v repoquery >/dev/null; then list_packages Available --showduplicates list available "$@"; return; fi
  answer=$(query "$details" "$@"); code=$?
  said "$answer" | sed 's/|None/|/g; s/|[^|]*?[^|]*$/|/' # a "?" is a letter that is not ASCII: that vendor is not known
  return "$code"
}
upgrades() { # those that yum lists, and what is known of them and of the versions before
  # shellcheck disable=SC2086  # names have no blanks and no wildcards
  [ -z "$names" ] || described=$(describe $names)
  { said "$described"; said "$listed"; } | awk -F '|' '!(($1, $2, $3, $4, $5, $6) in told) { told[$1, $2, $3, $4, $5, $6]; print }'
  [ "$listed_code" -eq 0 ] || said "$listed_errors" >&2
  return "$listed_code"
}

# yum has files and types of advisories in one list, and the rest in another. Only "list available" has the advisories
# about versions that are no updates for yum (hidden, obsoleted, in no repository), and those about packages that replace
# others. It also has packages that are not needed here, and tells one architecture of each name (yum/updateinfo.py,
# _get_name2pkgtup): an advisory is about all of them.
# shellcheck disable=SC2016  # awk's $
relevant='
  /^[+]/ { arch = name = substr($0, 2); sub(/.*\./, "", arch); sub(/\.[^.]*$/, "", name); arches[name] = arches[name] " " arch; next }
  NF == 3 && $3 ~ /-.*-.*\./ {
    spec = $3; sub(/\.[^.]*$/, "", spec); name = spec; sub(/-[^-]*-[^-]*$/, "", name); count = split(arches[name], own, " ")
    for (i = 1; i <= count; i++) if (!told[$1, spec, own[i]]++) print $1, $2, spec "." own[i] }'
# shellcheck disable=SC2016  # awk's $
advisory_form='
  function put(label, value) { if (value != "") printf "%11s: %s\n", label, value }
  function note_cve(word) { if (word ~ /^CVE-[0-9-]+$/) cves[id] = cves[id] " " word }
  /^>/ {
    $0 = substr($0, 2); if (NF != 3) next
    if (!($1 in kind)) order[++count] = $1
    kind[$1] = $2; severity[$1] = ""
    if (sub(/\/Sec\.$/, "", kind[$1])) { severity[$1] = kind[$1]; kind[$1] = "security" }
    files[$1] = files[$1] " " $3; next
  }
  /^=====/ { id = label = ""; next }
  /^  Update ID : / { id = $4; label = ""; next }
  /^     Issued : [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]/ {
    time = $4 ~ /^[0-9][0-9]:[0-9][0-9]$/ ? $4 ":00" : $4 ~ /^[0-9][0-9]:[0-9][0-9]:[0-9][0-9]$/ ? $4 : "00:00:00"
    date[id] = substr($3, 1, 10) " " time; label = ""; next
  }
  /^       CVEs : / || /^    Updated : .*       CVEs : / { label = "CVEs"; note_cve($NF); next } # the line before may have no end
  /^(\t|        )    : / { if (label == "CVEs") note_cve($2); next }
  / : / { label = "" }
  END {
    for (i = 1; i <= count; i++) {
      put("Update ID", order[i]); put("Type", kind[order[i]]); put("Updated", date[order[i]])
      n = split(cves[order[i]], word, " "); for (k = 1; k <= n; k++) put("CVEs", word[k])
      put("Severity", severity[order[i]])
      n = split(files[order[i]], word, " "); for (k = 1; k <= n; k++) put("Files", word[k] ".rpm")
    }
  }'
# shellcheck disable=SC2086  # options
advise() { ask -d 0 "$skip_unread" $all_versions updateinfo "$@"; }
advisories() {
  listed_notices=$(advise list available); code=$?
  notices=$({ { fp_rpm_query -a | awk -F '\t' 'NF >= 7 { print $1 "." $5 }'; replacements; } | sort -u | sed 's/^/+/'; said "$listed_notices"; } | awk "$relevant")
  if [ -n "$notices" ]; then
    texts=$(advise info updates) || code=$?
    others=$({ said "$texts"; said "$notices"; } | awk '/^  Update ID : / { told[$4] } NF == 3 && $1 ~ /^[A-Za-z0-9][A-Za-z0-9:._-]*$/ && $2 ~ /Sec\.$|^security$/ && !($1 in told) { told[$1]; print $1 }' | head -n 50)
    # shellcheck disable=SC2086  # ids without blanks and wildcards
    [ -z "$others" ] || texts="$texts
$(advise info available $others)" || code=$?
  fi
  { said "$notices" | sed 's/^/>/'; said "$texts"; } | awk "$advisory_form"
  return "$code"
}

# shellcheck disable=SC2016  # awk's $
transaction_form='
  function tell(line, spec) { lines[++count] = line; specs[count] = spec }
  /^---> Package / && $5 == "will" {
    sub(/^0:/, "", $4); end = $0; sub(/.* will be /, "", end)
    if (end == "an update") end = "an upgrade"; else if (end == "updated") end = "upgraded"; else if (end == "obsoleting") end = "installed"
    arch = name = $3; sub(/.*\./, "", arch); sub(/\.[^.]*$/, "", name)
    tell("---> Package " $3 " " $4 " will be " end, name "-" $4 "." arch); next
  }
  /^Packages skipped because of dependency problems:/ { skipping = 1; next } # they are above, too
  skipping && /^    [^ ]+ from [^ ]+$/ { skipped[$1]; tell(" Problem: " $1 " is skipped because of dependency problems"); next }
  /^No package .* available\.$/ { tell("No match for argument: " $3); tell("Error: no repository has " $3); next }
  /^Error: / { tell($0); inside = 1; next }
  inside && /^ +[^ ]/ && !/^ You could try / { sub(/^ +/, ""); tell("  - " $0); next }
  { inside = 0 }
  END { for (k = 1; k <= count; k++) if (!(specs[k] in skipped)) print lines[k] }'
simulate() { # WORDS…: sets simulated to what yum says, transaction to that in the form of dnf, code to yum's
  simulated=$(ask -d 2 "$skip_unread" --assumeno "$@" 2>&1); code=$?
  # yum keeps each transaction that is refused
  saved=$(said "$simulated" | sed -n 's/^ yum load-transaction \(\/tmp\/yum_save_tx\.[A-Za-z0-9._-]*\.yumtx\)$/\1/p')
  # shellcheck disable=SC2086  # paths without blanks and wildcards
  [ -z "$saved" ] || rm -f $saved
  # in a text, "EPOCH:NAME-VERSION" becomes "NAME-EPOCH:VERSION"
  transaction=$(said "$simulated" | sed 's/\(^\|[ (]\)\([0-9]\{1,9\}\):\([A-Za-z0-9_][^ ]*\)-\([^- ]*-[^- ]*\)/\1\3-\2:\4/g' | awk "$transaction_form")
}
needed_by() { # "NEW.ARCH<tab>NEEDER.ARCH" for each package that needs something of a new one
  if command -v repoquery >/dev/null; then
    # shellcheck disable=SC2046  # package names and versions have no blanks and no wildcards
    answer=$(query '>%{name}.%{arch}|%{ui_nevra}\n<P\n%{provides}\n<R\n%{requires}' $(chosen 'installed|an upgrade')); code=$?
    { said "$new" | tr '\n' ' '; echo; said "$answer"; } | awk "$needers" | sort -u
    return "$code"
  fi
  said "$simulated" | awk ' # yum tells which names are needed, but not who provides what else is needed
    /^--> Processing Dependency: .* for package: / {
      arch = needer = $NF; sub(/.*\./, "", arch); sub(/^[0-9]+:/, "", needer); sub(/-[^-]*-[^-]*$/, "", needer)
      wants[$4, needer "." arch]
    }
    /^---> Package .* will be installed$/ { name = $3; sub(/\.[^.]*$/, "", name); new[name] = $3 }
    END { for (key in wants) { split(key, pair, SUBSEP); if (pair[1] in new && new[pair[1]] != pair[2]) print new[pair[1]] "\t" pair[2] } }' | sort -u
}

unfinished_transactions() { # the times of transactions that yum began, and did not end
  for file in "$yum_journals"/transaction-all.*; do
    case $file in *'*' | *disabled) ;; *) printf '%s\n' "${file##*/transaction-all.}" ;; esac
  done
}

assess_tool() {
  fp_section repositories repositories
  fp_section advisory_sources advisory_sources
  fp_section copies copies
  ! command -v repoquery >/dev/null || fp_section distribution_repositories distribution_repositories
  simulate --setopt=skip_broken=1 update
  fp_section transaction said "$transaction" "$code"
  listed=$(list_packages Updated list updates 2>&1); listed_code=$?
  listed_errors=$(said "$listed" | grep -v '|||$')
  # what another package replaces is not updated
  names=$({ said "$transaction"; said "$listed"; } | awk -F '|' '/^---> / { if (/ will be obsoleted$/) { split($0, word, " "); gone[word[3]] } next } $1 ~ /^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/ && $5 ~ /^[a-z0-9_]+$/ && !(($1 "." $5) in gone) { print $1 "." $5 }')
  listed=$({ said "$names" | tr '\n' ' '; echo; said "$listed"; } | awk -F '|' 'NR == 1 { n = split($0, word, " "); for (i = 1; i <= n; i++) pending[word[i]]; next } ($1 "." $5) in pending')
  fp_section upgrades upgrades
  held=$(holds)
  if [ -n "$held" ]; then
    fp_section holds said "$held"
    # shellcheck disable=SC2086  # options
    fp_section all_upgrades list_packages Updated $all_versions list updates
  fi
  fp_section advisories advisories
  new=$(chosen installed)
  if [ -n "$new" ]; then
    # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
    fp_section new_packages describe $new
    fp_section needed_by needed_by
  fi
  fp_section reboot_suggested reboot_suggested
  fp_section unfinished_transactions unfinished_transactions
}
reboot_suggested() { find "$yum_cache" -path '*/gen/updateinfo.xml' -type f -exec cat {} + 2>/dev/null | fp_find_reboot_suggestions; }

simulate_tool() { # PACKAGE…
  # shellcheck disable=SC2046  # names have no blanks and no wildcards; yum can't be told to keep what is installed
  simulate --setopt=skip_broken=0 install "$@" $(fp_param keep | sed 's/^/--exclude=/')
  fp_section simulation said "$transaction" "$code"
  files=$(chosen 'installed|an upgrade')
  if [ -z "$(fp_param keep)" ] && [ -n "$files" ] && command -v repoquery >/dev/null; then
    # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
    fp_section downloads query '%{repoid}|%{packagesize}|%{relativepath}' $files
    fp_section cached fp_cached_packages "$yum_cache"
  fi
}
