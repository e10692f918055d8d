#!/bin/sh
# Tells what makes this machine known to others, so that its next OS disk keeps it. Changes nothing.
# Records: host_key (type, private, public: texts of the files), identity (name: the host name, machine_id, and
# machine_id_file: where it is).
# The answer has secrets: nobody logs or stores it.
# Step: order
# Changes: nothing
# shellcheck disable=SC2154  # variables of prelude.sh

for file in /etc/ssh/ssh_host_*_key; do
  [ -f "$file" ] || continue
  type=${file#/etc/ssh/ssh_host_} type=${type%_key}
  fp_emit host_key "type=$type" "private=$(cat -- "$file")" "public=$(cat -- "$file.pub" 2>/dev/null)"
done
file=/etc/machine-id
fp_emit identity "name=$(uname -n)" "machine_id=$(cat "$file" 2>/dev/null)" "machine_id_file=$file"
