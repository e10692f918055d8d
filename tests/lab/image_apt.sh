# shellcheck shell=bash disable=SC2154
# The image of hosts with apt, and Debian's own updates for them. Sourced by lab.sh.

# shellcheck disable=SC2016  # the scripts' own variables
made() { # version, folder, names: packages that each have a behaviour in version 2
  local version=$1 out=$2 name d script extra; shift 2; mkdir -p "$out"
  for name; do
    d=$(mktemp -d); chmod 755 "$d"; mkdir -p "$d/DEBIAN" "$d/usr/share/$name"; script=: extra=
    echo "$version" > "$d/usr/share/$name/version"
    case $name-${version%%.*} in
      lab-slow-2) script='sleep "$(cat /etc/lab-slow-seconds 2>/dev/null || echo 30)"' ;;     # a long transaction
      lab-failing-2) script='[ -e /etc/lab-failing-fixed ] || { echo "lab-failing: cannot migrate data" >&2; exit 1; }' ;;
      lab-reboot-2 | lab-reboot-sec-2)                                                        # as Ubuntu's hook does
        script="touch /run/reboot-required; echo $name >> /run/reboot-required.pkgs" ;;
      lab-removes-2) extra='Conflicts: lab-plain\n' ;;                    # to upgrade it takes lab-plain away
      lab-dep-a-*) extra="Depends: lab-dep-b (= $version)\n" ;;           # the two only go together
    esac
    printf "Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: lab <lab@localhost>\n${extra}Description: %s\n" \
      "$name" "$version" "$name" > "$d/DEBIAN/control"
    printf '#!/bin/sh\nset -e\n[ "$1" = configure ] || exit 0\n%s\n' "$script" > "$d/DEBIAN/postinst"
    chmod 755 "$d/DEBIAN/postinst"
    if [ "$name" = lab-conffile ]; then  # a configuration file that was edited by hand and that the update changes too
      mkdir -p "$d/etc"; echo "setting=$version" > "$d/etc/lab.conf"; echo /etc/lab.conf > "$d/DEBIAN/conffiles"
    fi
    dpkg-deb --root-owner-group -Znone --build "$d" "$out/${name}_${version}_all.deb" >/dev/null; rm -rf "$d"
  done
}

apt_of() { # image, folder, words: this machine's apt (so with its proxy and certificates) looks at the image's packages, not its own
  local base=$1/base work=$2; shift 2; mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial
  apt-get -qq -o "Dir::State=$work/state" -o "Dir::Cache=$work/cache" -o "Dir::Cache::archives=$work/cache/archives" \
    -o "Dir::State::status=$base/var/lib/dpkg/status" -o "Dir::State::extended_states=$base/var/lib/apt/extended_states" \
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null \
    -o Dir::Etc::PreferencesParts=/dev/null -o APT::Default-Release= -o APT::Sandbox::User=root -o Acquire::Languages=none \
    -o APT::Get::List-Cleanup=false -o Debug::NoLocking=true "$@"  # images that are made side by side look at the same packages
}

publish() { # image, suite, label: a repository of what the image lacks from that suite and isn't published yet
  local image=$1 suite=$2 label=$3 work=$1/work pool=pool/$2 dist=dists/$2 deb real
  mkdir -p "$work" "$image/repo/$pool" "$image/repo/$dist/main/binary-$ARCH"
  mirror | if [ "$suite" = bookworm-security ]; then grep -v bookworm-updates; else cat; fi > "$work/sources.list"
  apt_of "$image" "$work" update
  apt_of "$image" "$work" -y --download-only dist-upgrade >/dev/null
  for deb in "$work"/cache/archives/*.deb; do
    [ ! -e "$deb" ] || [ -n "$(find "$image/repo/pool" -name "${deb##*/}")" ] || cp "$deb" "$image/repo/$pool/"
  done
  if [ "$suite" = bookworm-security ]; then made 2.0 "$image/repo/$pool" lab-sec lab-reboot-sec; else
    made 2.0 "$image/repo/$pool" lab-{plain,slow,failing,reboot,conffile,dep-a,dep-b,removes}
    made 2.1 "$image/repo/$pool" lab-sec    # newer than the security fix, and not one itself
  fi
  real=$(find "$work/state/lists" -name "*_${suite}_*Release" | head -n1)  # the suite's name ages: stable, oldstable, …
  local field release=()
  for field in Origin=Debian "Label=$label" "Suite=$(sed -n 's/^Suite: //p' "$real")" "Version=$(sed -n 's/^Version: //p' "$real")" \
    "Codename=$suite" Components=main "Architectures=$ARCH"; do release+=(-o "APT::FTPArchive::Release::$field"); done
  ( cd "$image/repo" || exit; apt-ftparchive packages "$pool" > "$dist/main/binary-$ARCH/Packages"
    apt-ftparchive "${release[@]}" release "$dist" > "$work/Release"; mv "$work/Release" "$dist/Release" )
}

make_apt() { # folder of the image
  local base=$1/base
  system "$base" needrestart
  made 1.0 "$base/root/made" lab-{plain,slow,failing,reboot,conffile,sec,dep-a,dep-b,removes}
  chroot "$base" sh -c 'dpkg -i /root/made/*.deb' >/dev/null; rm -rf "$base/root/made"; echo 'setting=changed by hand' > "$base/etc/lab.conf"
  made 1.0 "$base/var/cache/lab" lab-reboot-sec  # not installed: dpkg -i it where one host shall need a reboot
  publish "$1" bookworm-security Debian-Security; publish "$1" bookworm-updates Debian
}
