# shellcheck shell=sh
# Makes the disk from which cloud-init takes the data of a first boot (NoCloud: label cidata).
# Parameters: file (where it is put), instance (of cloud-init: a new one is a first boot), user_data (text),
# network_config (text; "": none, so DHCP).
# Records: made, or failed (why).
# Step: provider
# Changes: on the host: a file of a disk
# shellcheck disable=SC2154  # variables of prelude.sh

for variable in file instance user_data network_config; do fp_set_param "$variable"; done
umask 077
seed_maker=''
for seed_tool in genisoimage mkisofs xorrisofs; do
  if command -v "$seed_tool" >/dev/null; then seed_maker=$seed_tool; break; fi
done
if [ -z "$seed_maker" ]; then
  fp_emit failed "why=none of genisoimage, mkisofs and xorrisofs is installed on the host; install one of them"
elif ! seed_folder=$(mktemp -d); then
  fp_emit failed "why=no temporary folder can be made on the host"
else
  trap 'rm -rf "$seed_folder" "$file.part"' EXIT
  trap 'exit 1' HUP INT PIPE TERM
  printf '%s\n' "$user_data" >"$seed_folder/user-data"
  printf 'instance-id: %s\n' "$instance" >"$seed_folder/meta-data"
  set -- "$seed_folder/user-data" "$seed_folder/meta-data"
  if [ -n "$network_config" ]; then
    printf '%s\n' "$network_config" >"$seed_folder/network-config"
    set -- "$@" "$seed_folder/network-config"
  fi
  if seed_said=$("$seed_maker" -quiet -output "$seed_folder/seed" -volid cidata -joliet -rock "$@" 2>&1) \
    && seed_said=$(cp "$seed_folder/seed" "$file.part" 2>&1) && seed_said=$(mv -f "$file.part" "$file" 2>&1); then
    fp_emit made
  else
    fp_emit failed "why=$seed_maker: $seed_said"
  fi
fi
