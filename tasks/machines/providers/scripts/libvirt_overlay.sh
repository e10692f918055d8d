# shellcheck shell=sh
# Starts or deletes a copy of a running machine of libvirt. The machine's disks are not changed: QEMU exports their state of
# one moment (a backup job in pull mode), and what the machine overwrites from then on is kept in reserved files. The copy
# writes to layers of its own. Its network cards are in a network namespace that has nothing else but dnsmasq, which answers
# whatever nameserver the copy asks, and its DHCP. It knows what it was given, and asks nobody. Two programs of systemd carry
# single connections over the border: to the copy's SSH server, and from the copy to repositories.
# Parameters: work (start or delete), uri, domain, copy (the name of its domain), place (its folder, which has its id), run
# (its folder of the time that it runs), card (the name of its namespace; its cards have a number behind), overlay_id. For
# a start also: address and ssh_port (of the machine), repositories (ADDRESS:PORT, one a line), addresses (of these and of
# gateways, one a line), dnsmasq (its configuration), reaches (kept for the reader), disks (lines TARGET PATH), nvram, xml
# and backup_xml (texts), cards (how many), freeze.
# Records: note (text), failed (why), and ended behind the last one.
# Step: provider
# Changes: on the host: a copy of a machine, and its files
# shellcheck disable=SC2154  # variables of prelude.sh

for variable in work uri domain copy place run card overlay_id address ssh_port nvram xml backup_xml cards freeze; do fp_set_param "$variable"; done
umask 022

copy_virsh() { virsh -q ${uri:+-c "$uri"} "$@"; }
copy_fail() { fp_emit failed "why=$1"; exit 0; }
copy_do() { copy_said=$("$@" 2>&1) || copy_fail "$*: $copy_said"; }
copy_in() { copy_do ip netns exec "$card" "$@"; }

# Sets copy_job to what works on the machine's disks or memory: "", "ours" (the export to our socket), or libvirt's words.
copy_find_job() {
  copy_job=''
  if ! copy_said=$(copy_virsh domjobinfo "$domain" 2>&1); then
    [ "$(copy_virsh domstate "$domain" 2>/dev/null)" != 'shut off' ] || return 0
    copy_fail "the jobs of $domain can't be read: $copy_said"
  fi
  case $(echo "$copy_said" | sed -n 's,^Job type: *,,p') in None*) return ;; esac
  copy_job=$(echo "$copy_said" | sed -n 's/^Operation: *//p')
  copy_job="a job of somebody else: ${copy_job:-$copy_said}"
  case $copy_job in *[Bb]ackup*) ;; *) return ;; esac
  copy_said=$(copy_virsh backup-dumpxml "$domain" 2>&1) || copy_fail "the backup job of $domain can't be read: $copy_said"
  case $copy_said in *[\'\"]"$run/nbd/disks"[\'\"]*) copy_job=ours ;; esac
}

copy_require_no_job() {
  copy_find_job
  [ -z "$copy_job" ] || copy_fail "$domain is at work, so its disks are not exported: $copy_job"
  while read -r copy_target copy_path <&5; do
    copy_said=$(copy_virsh blockjob "$domain" "$copy_target" --raw 2>&1) || copy_fail "the jobs of the disk $copy_target can't be read: $copy_said"
    [ -z "$copy_said" ] || copy_fail "$domain is at work on its disk $copy_target, so it is not exported:$(echo "$copy_said" | tr -s '[:space:]' ' ')"
  done 5<"$run/disks"
}

copy_require_room() {
  copy_need=0
  while read -r copy_target copy_path <&5; do
    copy_size=$(qemu-img info -U --output=json "$copy_path" 2>/dev/null | sed -n 's/.*"virtual-size": *\([0-9]*\).*/\1/p' | head -n 1)
    [ -n "$copy_size" ] || copy_fail "the size of $copy_path can't be read"
    copy_need=$((copy_need + copy_size / 1024))
  done 5<"$run/disks"
  copy_need=$((copy_need + copy_need / 4 + 1048576))
  copy_free=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
  [ "${copy_free:-0}" -ge "$copy_need" ] || copy_fail "$place has $((copy_free / 1024)) MiB free, and the copy may need $((copy_need / 1024)) MiB"
  copy_memory=$(copy_virsh dominfo "$domain" | sed -n 's/^Max memory: *\([0-9]*\) .*/\1/p')
  copy_left=$(sed -n 's/^MemAvailable: *\([0-9]*\) .*/\1/p' /proc/meminfo)
  [ "${copy_left:-0}" -ge "$((${copy_memory:-0} + 262144))" ] || copy_fail "the host has $((copy_left / 1024)) MiB of memory free, and the copy needs $((copy_memory / 1024)) MiB and 256"
}

copy_make_network() { # a bridge with the copy's cards, and one behind which nothing is: the copy finds all others unreachable
  copy_do ip netns add "$card"
  copy_in ip link add br0 type bridge forward_delay 0
  copy_in ip link add nowhere type bridge
  copy_in ip link set nowhere up
  copy_in ip link set lo up
  copy_in ip link set br0 up
  copy_in sh -c 'echo 1 >/proc/sys/net/ipv4/conf/br0/proxy_arp; echo 0 >/proc/sys/net/ipv4/neigh/br0/proxy_delay; echo 1 >/proc/sys/net/ipv4/conf/br0/forwarding; echo 0 >/proc/sys/net/ipv4/conf/br0/send_redirects; echo 1 >/proc/sys/net/ipv6/conf/br0/disable_ipv6'
  copy_from=198.18.0.1
  while read -r copy_own <&5; do
    copy_from=$copy_own
    copy_in ip address replace "$copy_from/32" dev br0
  done 5<"$run/addresses"
  copy_in ip address replace "$copy_from/32" dev br0
  copy_in ip route add "$address/32" dev br0 src "$copy_from"
  copy_in ip address add 198.18.0.2/32 dev nowhere
  copy_in ip route add default dev nowhere
  copy_in nft 'add table ip copy; add chain ip copy in { type nat hook prerouting priority -100; }; add rule ip copy in udp dport 53 redirect; add rule ip copy in tcp dport 53 redirect'
  copy_in dnsmasq --conf-file=- <"$run/dnsmasq"
  copy_number=0
  while [ "$copy_number" -lt "$cards" ]; do
    copy_do ip tuntap add dev "$card$copy_number" mode tap
    copy_number=$((copy_number + 1))
  done
}

copy_plug() { # the cards are moved before the copy executes its first instruction
  copy_number=0
  while [ "$copy_number" -lt "$cards" ]; do
    copy_do ip link set "$card$copy_number" netns "$card"
    copy_in ip link set "$card$copy_number" master br0 up
    copy_number=$((copy_number + 1))
  done
}

copy_export() {
  while read -r copy_target copy_path <&5; do
    copy_size=$(qemu-img info -U --output=json "$copy_path" | sed -n 's/.*"virtual-size": *\([0-9]*\).*/\1/p' | head -n 1)
    copy_do qemu-img create -q -f qcow2 "$place/$copy_target.kept" "$copy_size"
    # without its room, the machine itself could not write any more
    copy_do fallocate --keep-size --length "$((copy_size + copy_size / 4096 + 2097152))" "$place/$copy_target.kept"
    copy_do qemu-img create -q -u -f qcow2 -F raw -b "nbd+unix:///$copy_target?socket=$run/nbd/disks" "$place/$copy_target.qcow2" "$copy_size"
    for copy_file in "$place/$copy_target.kept" "$place/$copy_target.qcow2"; do
      copy_do chown --reference="$copy_path" -- "$copy_file"
      copy_do chmod 0600 "$copy_file"
    done
    copy_do chown --reference="$copy_path" -- "$place" "$run/nbd"
  done 5<"$run/disks"
  [ -z "$nvram" ] || copy_do cp -p -- "$nvram" "$place/nvram"
  copy_frozen=''
  trap '[ -z "$copy_frozen" ] || copy_virsh domfsthaw "$domain" >/dev/null 2>&1' EXIT
  copy_kind='crash-consistent'
  if [ -n "$freeze" ]; then
    copy_frozen=1
    if copy_said=$(copy_virsh domfsfreeze "$domain" 2>&1); then copy_kind='file-system-consistent'
    else fp_emit note "text=its file systems could not be frozen: $copy_said"; fi
  fi
  : >"$place/exported" # only with it is a job ever ended
  if ! copy_begun=$(copy_virsh backup-begin "$domain" --backupxml "$run/backup.xml" --reuse-external 2>&1); then
    copy_find_job # an answer can be lost
    [ "$copy_job" = ours ] || rm -f -- "$place/exported"
    copy_fail "the export of its disks did not begin: $copy_begun"
  fi
  if [ -n "$copy_frozen" ]; then copy_virsh domfsthaw "$domain" >/dev/null 2>&1; copy_frozen=''; fi
  echo "$copy_kind" >"$place/consistency"
}

copy_find_port() {
  copy_port=$((20000 + 0x${card#fp} % 12000))
  while grep -qi ":$(printf %04x "$copy_port") 00000000:0000 0A" /proc/net/tcp; do copy_port=$((copy_port + 1)); done
}

copy_proxy=/lib/systemd/systemd-socket-proxyd
copy_carry() { # over the border: LISTENER COMMAND…
  setsid "$@" </dev/null >/dev/null 2>&1 3>&- 5<&- &
  echo "$!" >>"$run/pids"
}

copy_connect() {
  copy_find_port
  copy_carry systemd-socket-activate -l "127.0.0.1:$copy_port" ip netns exec "$card" "$copy_proxy" "$address:$ssh_port"
  while read -r copy_repository <&5; do
    [ -z "$copy_repository" ] || copy_carry ip netns exec "$card" systemd-socket-activate -l "$copy_repository" nsenter "--net=$run/host" "$copy_proxy" "$copy_repository"
  done 5<"$run/repositories"
  echo "$copy_port" >"$place/port"
}

copy_start() {
  for copy_tool in virsh qemu-img fallocate ip nft dnsmasq nsenter systemd-socket-activate "$copy_proxy"; do
    command -v "$copy_tool" >/dev/null || copy_fail "$copy_tool is not installed on the host: install it there"
  done
  if [ -e "$place" ]; then
    [ "$(cat "$place/id" 2>/dev/null)" = "$overlay_id" ] || copy_fail "another copy is there: $(cat "$place/id" 2>&1)"
    if [ -e "$place/port" ] && [ "$(copy_virsh domstate "$copy" 2>/dev/null)" = running ]; then return; fi
    copy_delete # an earlier order was interrupted
  fi
  if copy_virsh domstate "$copy" >/dev/null 2>&1; then copy_fail "there is a domain $copy already, and no rehearsal has made it"; fi
  copy_do mkdir -m 0711 "$place"
  echo "$overlay_id" >"$place/id"
  copy_do mkdir -m 0711 "$run" "$run/nbd"
  for copy_list in repositories addresses disks dnsmasq reaches; do fp_param "$copy_list" | sed '/^$/d' >"$run/$copy_list"; done
  copy_do cp "$run/reaches" "$place/reaches"
  printf '%s\n' "$xml" >"$run/copy.xml"
  printf '%s\n' "$backup_xml" >"$run/backup.xml"
  copy_require_no_job
  : >"$run/host"
  copy_do mount --bind /proc/self/ns/net "$run/host"
  copy_require_room
  copy_make_network
  copy_export
  : >"$place/created" # only with it is a domain of that name ever ended
  if ! copy_said=$(copy_virsh create "$run/copy.xml" --paused 2>&1); then
    case $copy_said in *'already exists'*) rm -f -- "$place/created" ;; esac
    copy_fail "the copy was not created: $copy_said"
  fi
  copy_plug
  copy_connect
  copy_do copy_virsh resume "$copy"
}

copy_end_export() { # only our own: a backup of the machine by somebody else goes on
  copy_find_job
  case $copy_job in
    '') ;;
    ours)
      [ -e "$place/exported" ] || copy_fail "an export to $run/nbd runs, and $place says nothing of it"
      copy_do copy_virsh domjobabort "$domain"
      ;;
    *) fp_emit note "text=$domain is left at work: $copy_job" ;;
  esac
}

copy_delete() {
  [ -e "$place" ] || return 0
  if [ -e "$place/id" ] && [ "$(cat "$place/id")" != "$overlay_id" ]; then return; fi
  if copy_virsh domstate "$copy" >/dev/null 2>&1; then
    if [ -e "$place/created" ]; then copy_do copy_virsh destroy "$copy"
    else fp_emit note "text=the domain $copy is left: no rehearsal has made it"; fi
  fi
  copy_end_export
  if [ -r "$run/pids" ]; then
    while read -r copy_pid <&5; do
      case $(tr '\0' ' ' 2>/dev/null <"/proc/$copy_pid/cmdline") in *systemd-socket-*) kill "$copy_pid" 2>/dev/null ;; esac
    done 5<"$run/pids"
  fi
  if ip netns list | grep -q "^$card\b"; then
    for copy_pid in $(ip netns pids "$card"); do kill "$copy_pid" 2>/dev/null; done
    copy_do ip netns delete "$card"
  fi
  for copy_card in /sys/class/net/"$card"?*; do
    if [ -e "$copy_card" ]; then copy_do ip link delete "${copy_card##*/}"; fi
  done
  if [ -e "$run/host" ]; then umount "$run/host" 2>/dev/null; fi
  rm -rf -- "$run" "$place" || copy_fail "$place can't be removed"
}

case $work in
  start) copy_start ;;
  delete) copy_delete ;;
  *) copy_fail "there is no work $work" ;;
esac
fp_emit ended
