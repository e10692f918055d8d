# shellcheck shell=sh
# Reads everything that an assessment needs from apt and dpkg, in one call. Changes nothing but apt's lists, and those
# only with "refresh".
# Parameters: refresh ("yes" or absent), lock_wait_seconds (how long to wait for another process that reads the
# lists), refresh_seconds (when the reading of the lists is ended).
# apt is started six times (up to four times more if apt can't upgrade all packages together);
# needrestart, systemctl and pro once each, if they are installed. The exit code 66 says that dpkg can't read its database.
# Step: assess
# Changes: nothing but apt's lists of packages
# Requires: manager_environment, apt_options, unmet_dependencies, package_locks, dpkg_query, outdated_programs, live_patches
# Requires: live_patch_enrolment, limited
# shellcheck disable=SC2154  # variables of apt_options.sh

refresh_lists() { # "update" ignores DPkg::Lock::Timeout: wait for the lock here
  fp_read_time
  until=$((fp_time + ${lock_wait_seconds:-0}))
  while :; do
    # shellcheck disable=SC2086  # words
    said=$(fp_limited "$refresh_seconds" apt-get $fp_apt_options update </dev/null 2>&1); code=$?
    case $said in *"Could not get lock "*) fp_read_time; [ "$fp_time" -lt "$until" ] || break ;; *) break ;; esac
    sleep 2
  done
  printf '%s\n' "$said"
  return "$code"
}

said() { printf '%s\n' "$1"; return "${2:-0}"; }

# the blocks of apt-cache policy with a version that is newer than the installed one, or is to replace it
# shellcheck disable=SC2016  # awk's $, not the shell's
newer_only='
  function block() { if (text != "" && (candidate != installed || (first != "" && first !~ /^ \*\*\*/))) printf "%s", text }
  /^fp-code / { block(); text = ""; print; next }
  /^[^ ]/ { block(); text = installed = candidate = first = ""; table = 0 }
  { text = text $0 "\n" }
  /^  Installed: / { installed = $2 }
  /^  Candidate: / { candidate = $2 }
  table && first == "" { first = $0 }
  /^  Version table:/ { table = 1 }
  END { block() }'

holder() { fp_emit lock path="$1" pid:="$2" name="$(fp_name "$2")"; } # PATH PID

needs_restart() { unset NEEDRESTART_SUSPEND; exec needrestart -b -r l; } # in place of this shell, as the next ones

pro_updates() { # the newer call returns CVEs; older clients do not have it
  pro api u.pro.packages.updates_with_cves.v1 2>/dev/null | grep '"result": *"success"' || pro api u.pro.packages.updates.v1
}

since() { # NAME:ARCH: since when it is not installed, by dpkg's log; else when dpkg wrote the list of its files
  at=$(cat /var/log/dpkg.log.1 /var/log/dpkg.log 2>/dev/null | awk -v name="$1" '$3 == "status" && $5 == name {
    if ($4 == "installed" || $4 == "not-installed" || $4 == "config-files") at = ""
    else if (at == "") at = $1 " " $2 } END { print at }')
  [ -z "$at" ] || { date -d "$at" +%s; return; }
  for file in "/var/lib/dpkg/info/$1.list" "/var/lib/dpkg/info/${1%:*}.list"; do stat -c %Y "$file" && return; done
}

# what a script said before it failed, from the newest log that has it: apt's, or that of one of our jobs
failure() { # NAME:ARCH
  # shellcheck disable=SC2012  # the names of logs have no blanks
  ls -t /var/log/apt/term.log* /var/lib/fleetpatch/jobs/*/log 2>/dev/null | while IFS= read -r file; do
    words=$(zcat -f "$file" | tr '\t\r' '  ' | awk -v name="$1" -v short="${1%:*}" '
      { sub(/ +$/, "") }
      /^(Setting up|Unpacking|Processing triggers|Preparing|Selecting|\(Reading)/ { before = ""; next }
      found && /^ *dependency problems/ { found = 0; next } # of another package
      found { sub(/^ +/, ""); said = before == "" ? $0 : $0 " (" before ")"; found = 0 }
      $1 == "dpkg:" && $2 == "error" && $3 == "processing" {
        if ($4 == "archive") { sub(/.*\//, "", $5); sub(/_.*/, "", $5) }
        if ($5 == name || $5 == short) { found = 1; next } }
      { before = $0 } END { print substr(said, 1, 400) }')
    [ -z "$words" ] || { said "$words"; break; }
  done
}

unfinished() { # of each package that is unpacked and not set up: name, since when, provides, depends, failure
  for name in $unpacked; do
    # shellcheck disable=SC2016  # dpkg-query's $
    relations=$(fp_dpkg_query -W -f '${Provides}\t${Pre-Depends}, ${Depends}\n' "$name" | head -n 1)
    printf '%s\t%s\t%s\t%s\n' "$name" "$(since "$name" 2>/dev/null)" "$relations" "$(failure "$name" 2>/dev/null)"
  done
}

unpacking_failures() { # of each package that apt names with unmet dependencies: name, failure
  said "$fp_unmet" | awk '/^ / { if ($2 == ":") print $1; for (i = 1; i < NF; i++) if ($i ~ /Depends:$/) print $(i + 1) }' |
    sort -u | while IFS= read -r name; do printf '%s\t%s\n' "$name" "$(failure "$name" 2>/dev/null)"; done
}

releases() { # of each list of a repository: its file, Valid-Until, Date, Label, Suite
  set -- /var/lib/apt/lists/*Release
  [ ! -e "$1" ] || exec awk -F ': ' -v OFS='\t' '
    function tell() { if (file != "") print file, has["Valid-Until"], has["Date"], has["Label"], has["Suite"] }
    FNR == 1 { tell(); split("", has); file = FILENAME; sub(/.*\//, "", file); begins = 1 }
    !begins { next }
    /^(MD5Sum|SHA1|SHA256):/ { begins = 0; next }
    { has[$1] = $2 }
    END { tell() }' "$@"
}
sources() { # what an update would ask each repository for
  uris=$(fp_apt_get --print-uris update); code=$?
  said "$uris" | grep 'Release. '
  return "$code"
}

# What dpkg reads only when it unpacks: the lists of files, diversions and triggers, then the owners in statoverride
find_owners() { # sets users and groups to the names in the overrides
  users='' groups=''
  while read -r user group _; do
    case $user in '' | root | \#*) ;; *) users="$users $user" ;; esac
    case $group in '' | root | \#*) ;; *) groups="$groups $group" ;; esac
  done <<OVERRIDES
$fp_output
OVERRIDES
}
assess_database() {
  fp_answer files dpkg-query -S /fleetpatch-asks-for-no-file
  [ -s /var/lib/dpkg/statoverride ] || return 0
  fp_answer overrides dpkg-statoverride --list
  find_owners
  # shellcheck disable=SC2086  # names are words
  { [ -z "$users" ] || fp_answer users getent passwd $users; [ -z "$groups" ] || fp_answer groups getent group $groups; }
}

# The hooks that may mount a read-only file system writable: of apt, and what is in their scripts
assess_hooks() {
  while read -r _ mount _ options _; do
    case $mount:,$options, in /:*,ro,* | /usr:*,ro,* | /boot:*,ro,* | /var:*,ro,*) fp_section hooks hooks; return ;; esac
  done </proc/self/mounts
}
hooks() {
  set_hooks=$(apt-config dump DPkg::Pre-Invoke) || return
  said "$set_hooks"
  for word in $(said "$set_hooks" | tr -c '[:alnum:]/._-' ' '); do
    case $word in /*/*) [ ! -f "$word" ] || grep -Is mount "$word" ;; esac
  done
  return 0
}

for name in lock_wait_seconds refresh refresh_seconds; do fp_set_param "$name"; done
if [ "$refresh" = yes ]; then
  fp_answer update refresh_lists
  case $? in 124 | 137) fp_answer partial ls /var/lib/apt/lists/partial ;; esac # it was ended
else
  fp_answer validity apt-config dump Acquire::Check-Valid-Until
fi
fp_answer sources sources
fp_answer lists releases

database() { exec stat -c '%i %y %s' /var/lib/dpkg/status 2>/dev/null; } # a process that changes packages writes it again at the end
before=$(database)
# shellcheck disable=SC2016  # dpkg-query's $
fp_ask_dpkg -W -f '${Package}:${Architecture}\t${db:Status-Want}\t${db:Status-Eflag}\t${db:Status-Status}\t${Version}\n'
packages=$fp_found
if [ "$fp_asked" -eq 0 ] && [ -z "$packages" ]; then echo 'dpkg: error: its database has no package' >&2; fi
[ -n "$packages" ] && [ "$fp_asked" -eq 0 ] || exit 66 # an unreadable database is not an empty one
names=$(said "$packages" | awk -F '\t' '$4 != "not-installed" && $4 != "config-files" { print $1 }')
# what is odd, "=", what is unpacked and not set up: both are short, and a shell may search a long text for minutes
lists=$(said "$packages" | awk -F '\t' '
  $2 == "hold" || $3 != "ok" || ($4 != "installed" && $4 != "config-files" && $4 != "not-installed")
  $4 == "unpacked" || $4 == "half-configured" { unpacked = unpacked "\n" $1 }
  END { print "=" unpacked }')
lists=$fp_newline$lists
odd=${lists%%"$fp_newline="*} unpacked=${lists##*"$fp_newline="}
fp_text_section odd "${odd#"$fp_newline"}"
[ -z "$unpacked" ] || fp_text_section unfinished "$(unfinished)"

policy=$({ said "$names" | xargs apt-cache policy; said "fp-code $?"; } | awk "$newer_only")
code=${policy##*fp-code } policy=${policy%fp-code *}
fp_text_section policy "${policy%"$fp_newline"}" "$code"
fp_answer releases apt-cache policy

# repositories that are configured and were never read: without a list, would an update fetch one?
unread=false
set -- /var/lib/apt/lists/*Release
if [ ! -e "$1" ] && [ -n "$(sources)" ]; then unread=true; fi

upgrade=$(fp_apt_get -s dist-upgrade 2>&1); code=$?
if [ "$code" -ne 0 ]; then
  view=$(mktemp)
  fp_set_apart "$view"
  if [ -n "$fp_unmet" ]; then
    fp_text_section unmet "$fp_unmet"
    fp_section unpacking unpacking_failures
    upgrade=$(fp_apt_get -s dist-upgrade 2>&1); code=$?
  fi
  # apt may find no way to upgrade all packages together, though no dependency is unmet now
  if [ "$code" -ne 0 ] && fp_apt_get -s check >/dev/null 2>&1; then
    upgrade=$(fp_apt_get -s --with-new-pkgs upgrade 2>&1) || upgrade=
    code=0
  fi
  rm -f "$view"
fi
upgrade=$(said "$upgrade" | grep -v '^Conf ')
fp_text_section upgrade "$upgrade" "$code"

# apt-cache show of each newer candidate, and of each new dependency (an Inst line without an old version)
versions=$(said "$policy
=
$upgrade" | awk '
    $0 == "=" { upgrading = 1; next }
    !upgrading { if (/^[^ ].*:$/) { sub(/:$/, ""); if (!told[$0]++) print } next }
    $1 == "Inst" && $3 !~ /^\[/ && !told[$2]++ { print $2 }' | xargs -r apt-cache show --no-all-versions \
  | awk '/^(Package|Architecture|Version|Source|Size|Depends|Pre-Depends|Recommends|Provides):/ || $0 == ""')
fp_text_section versions "$versions"

fp_answer audit dpkg --audit
assess_database
assess_hooks
interrupted=false
for file in /var/lib/dpkg/updates/[0-9]*; do [ ! -e "$file" ] || interrupted=true; done
container=false release=$(uname -rv) asked_by='' images=''
build=${release#* } release=${release%% *}
for file in /boot/vmlinu[xz]-*; do [ ! -e "$file" ] || images="$images${images:+$fp_newline}${file#/boot/vmlinu?-}"; done
[ ! -e /run/reboot-required.pkgs ] || asked_by=$(cat /run/reboot-required.pkgs 2>/dev/null)
if [ -e /run/systemd/container ] || [ -e /.dockerenv ] || [ -e /run/.containerenv ] || grep -qz '^container=' /proc/1/environ 2>/dev/null; then container=true; fi
flag=false; [ ! -e /run/reboot-required ] || flag=true
hook=false
for file in /usr/share/update-notifier/notify-reboot-required /etc/kernel/postinst.d/unattended-upgrades; do [ ! -e "$file" ] || hook=true; done
# shellcheck disable=SC2016  # dpkg-query's $
fp_emit reboot container:=$container flag:=$flag hook:=$hook kernel="$release" build="$build" \
  package="$(dpkg-query -W -f '${Version}' "linux-image-$release" 2>/dev/null)" \
  kernel_times="$(stat -c '%n %Y' /var/lib/dpkg/info/linux-image-*.list 2>/dev/null)" \
  asked_by="$asked_by" images="$images"
if command -v needrestart >/dev/null && fp_answer needrestart needs_restart; then :
elif [ -d /run/systemd/system ]; then fp_section outdated fp_outdated; fi
if [ -d /run/systemd/system ]; then
  fp_answer timers env TZ=UTC systemctl show -p Id,ActiveState,NextElapseUSecRealtime apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service
  fp_answer periodic apt-config dump APT::Periodic
fi
if command -v pro >/dev/null; then
  fp_section pro pro_updates
  fp_text_section installed "$(said "$packages" | awk -F '\t' '$4 == "installed" { sub(/:.*/, "", $1); print $1 "\t" $5 }')"
fi
assess_live_patches "$container"
assess_live_patch_enrolment "$container"
fp_each_holder holder /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock
# last: a process that released its locks before they were checked has written the database by now, so the data is
# from two states
fp_read_time
changed=false; [ "$before" = "$(database)" ] || changed=true
fp_emit state changed:=$changed native="$(dpkg --print-architecture)" interrupted:=$interrupted unread:=$unread at:="$fp_time" \
  lists_at:="$(stat -c %Y /var/lib/apt/lists/partial 2>/dev/null)"
