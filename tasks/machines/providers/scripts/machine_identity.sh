#!/bin/sh
# Tells who this machine is, as its hypervisor or its cloud also knows it. Changes nothing.
# Records: machine (uuid, asset_tag: the id of an instance of EC2), card (mac; one for each network card).
# Step: provider
# Changes: nothing

read_line() { line=''; { IFS= read -r line <"$1"; } 2>/dev/null; }
read_line /run/systemd/container; container=$line
[ -n "$container" ] || container=$(tr '\0' '\n' 2>/dev/null </proc/1/environ | sed -n 's/^container=//p')
for file in /.dockerenv /run/.containerenv; do [ ! -e "$file" ] || container=yes; done
uuid='' tag=''
if [ -z "$container" ]; then # a container shows what its host is
  for file in /sys/class/dmi/id/product_uuid /sys/firmware/devicetree/base/vm,uuid; do
    [ -n "$uuid" ] || uuid=$(tr -d '\0\n' <"$file" 2>/dev/null)
  done
  read_line /sys/class/dmi/id/board_asset_tag; tag=$line
fi
fp_emit machine "uuid=$uuid" "asset_tag=$tag"
for card in /sys/class/net/*; do
  # a macvtap or a bridge has the address of another machine's card, or one that somebody chose
  if [ -e "$card/device" ] || [ -n "$container" ]; then read_line "$card/address"; else line=''; fi
  [ -z "$line" ] || fp_emit card "mac=$line"
  read_line "$card/bonding_slave/perm_hwaddr"
  [ -z "$line" ] || fp_emit card "mac=$line"
done
