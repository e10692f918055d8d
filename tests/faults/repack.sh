#!/bin/sh
# Run on a lab host as root: $1 is one of its packages, which is packed anew as it stands there, under a higher version,
# and offered by a repository on the host itself. So anything can be made to have an update, with its real scripts.
set -e
work=$(mktemp -d) repo=/var/local/repo
mkdir -p "$work/DEBIAN" "$repo"
dpkg-query -L "$1" | while IFS= read -r path; do # /lib is a link to a directory, and some documents are not there
  if [ ! -d "$path" ] && { [ -L "$path" ] || [ -e "$path" ]; }; then printf '%s\n' ".$path"; fi
done | tar -C / --no-recursion -T - -cf - | tar -C "$work" -xpf -
for name in $(dpkg-query --control-list "$1"); do cp -a "$(dpkg-query --control-path "$1" "$name")" "$work/DEBIAN/$name"; done
dpkg-query -s "$1" | awk '
  /^Status:|^Config-Version:/ { next }
  /^Conffiles:/ { skip = 1; next }
  /^ / && skip { next }
  { skip = 0 }
  /^Version:/ { $0 = $0 "+again" }
  { print }' >"$work/DEBIAN/control"
dpkg-deb -Znone -b "$work" "$repo/$1.deb" >/dev/null
cd "$repo"
for deb in *.deb; do
  dpkg-deb -f "$deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
done >Packages
echo "deb [trusted=yes] file:$repo ./" >/etc/apt/sources.list.d/repacked.list
rm -rf "$work"
