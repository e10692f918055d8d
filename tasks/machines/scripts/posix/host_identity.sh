#!/bin/sh
# Tells what makes this machine known to others, so that its next OS disk keeps it. Changes nothing.
# Parameters: keys (yes: also the private host keys. The answer has secrets then: nobody logs or stores it.)
# Records: host_key (type, private, public: texts of the files; private is "unread" without keys), identity (name: the
# host name, fqdn, is_in_hosts: whether /etc/hosts gives it to 127.0.1.1, machine_id, and machine_id_file: where it is),
# network (links, routes, routes6, resolver: see HostNetwork).
# Step: order
# Changes: nothing
# shellcheck disable=SC2154  # variables of prelude.sh

fp_set_param keys
for file in /etc/ssh/ssh_host_*_key; do
  [ -f "$file" ] || continue
  type=${file#/etc/ssh/ssh_host_} type=${type%_key} private=unread
  [ "$keys" != yes ] || private=$(cat -- "$file")
  fp_emit host_key "type=$type" "private=$private" "public=$(cat -- "$file.pub" 2>/dev/null)"
done
file=/etc/machine-id resolver=/etc/resolv.conf
fp_emit identity "name=$(uname -n)" "fqdn=$(timeout 10 hostname -f 2>/dev/null)" "machine_id=$(cat "$file" 2>/dev/null)" \
  "is_in_hosts=$(grep -qs '^127\.0\.1\.1[[:space:]]' /etc/hosts && echo yes)" "machine_id_file=$file"
# behind the stub of systemd-resolved are the servers that it asks
! grep -qs '^nameserver 127\.0\.0\.5[34]' "$resolver" || resolver=/run/systemd/resolve/resolv.conf
fp_emit network "links=$(ip -j -d address 2>/dev/null)" "routes=$(ip -j -4 route 2>/dev/null)" \
  "routes6=$(ip -j -6 route 2>/dev/null)" "resolver=$(cat "$resolver" 2>/dev/null)"
