# shellcheck shell=bash disable=SC2154
# The image of hosts that play RHEL and SUSE, and the packages for them: Debian's userland, with the real dnf and zypper, and
# an rpm database in which only the lab's packages are. Sourced by lab.sh.

quietly() { local said; said=$("$@" 2>&1) || die "$*: $said"; }

RPMS=(kernel-{core,default} lab-{plain,slow,failing,reboot,reboot-sec,conffile,sec,dep-a,dep-b,removes,big,stack,message})

made_rpm() { # version, folder, names: packages that each have a behaviour after version 1.0
  local version=$1 to=$2 name; shift 2
  for name; do
    quietly rpmbuild -bb --define "_topdir $to.build" --define "lab_name $name" --define "lab_version $version" "${SELF%/*}/rpm/lab.spec"
  done
  mkdir -p "$to"; mv "$to.build/RPMS/noarch"/*.rpm "$to/"; rm -rf "$to.build"
}

repository() { # folder with packages, signer: a repository of them, signed as a distribution's is
  quietly rpmsign --define "_gpg_name $2" --define "__gpg $(command -v gpg)" --addsign "$1"/*.rpm
  createrepo_c -q "$1"
  quietly modifyrepo_c --mdtype=updateinfo "${SELF%/*}/rpm/updateinfo.xml" "$1/repodata"
  gpg -q --batch --armor --local-user "$2" --detach-sign "$1/repodata/repomd.xml"
  gpg -q --batch --armor --export "$2" > "$1/repodata/repomd.xml.key"
}

without_debian() { # root: no trace of the package manager that made it
  ( cd "$1" || exit; rm -rf usr/bin/{apt,dpkg}* usr/sbin/{apt,dpkg}* usr/lib/{apt,dpkg} etc/{apt,dpkg} var/{lib,cache}/{apt,dpkg} \
      var/log/{apt,dpkg.log} etc/cron.daily/{apt-compat,dpkg} etc/debian_version {etc,usr/lib}/systemd/system/{apt,dpkg}* )
}

make_rpm() { # folder of the image
  local base=$1/base repo=$1/repo work=$1/work name
  # Debian's package of dnf's plugins wants no zypper beside it: what is in it is taken without installing it
  # shellcheck disable=SC2016  # variables of mmdebstrap
  system "$base" dnf,zypper,libzypp-bin,libzypp-config,lsof,python3-dateutil,rpm --customize-hook='cd "$1/tmp" &&
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq download dnf-plugins-core && dpkg-deb -x dnf-plugins-core_*.deb "$1"; rm -f *.deb'
  # Of the plugins, those that fleetpatch uses or reads: dnf loads all of them at each of its hundreds of starts.
  find "$base/usr/lib/python3/dist-packages/dnf-plugins" -name '*.py' ! -name needs_restarting.py ! -name versionlock.py \
    ! -name config_manager.py ! -name download.py ! -name post-transaction-actions.py -delete
  chroot "$base" python3 -m compileall -q /usr/lib/python3/dist-packages/dnf-plugins # else each host does that, at its first dnf
  without_debian "$base"
  export GNUPGHOME=$work/keys; mkdir -m 700 "$GNUPGHOME"
  for name in lab stranger; do gpg -q --batch --passphrase '' --quick-gen-key "$name@localhost" rsa2048 sign never; done
  made_rpm 2.0 "$repo/updates" "${RPMS[@]}" lab-new; made_rpm 2.1 "$repo/updates" lab-sec  # newer than the security fix
  made_rpm 3.0 "$repo/badkey" lab-plain
  repository "$repo/updates" lab@localhost; repository "$repo/badkey" stranger@localhost
  gpgconf --kill all
  made_rpm 1.0 "$base/var/cache/lab" "${RPMS[@]}" lab-base lab-old
  mkdir -p "$base"/etc/{rpm,pki/rpm-gpg}
  echo '%_dbpath /var/lib/rpm' > "$base/etc/rpm/macros"  # Debian's rpm keeps it in a home directory
  printf 'rpm\talias %s --force-debian\n' '-U --upgrade' '-e --erase' > "$base/etc/popt"  # else it warns, whoever runs it
  printf '%s\n' '[main]' gpgcheck=1 installonly_limit=3 clean_requirements_on_remove=True best=True \
    skip_if_unavailable=False > "$base/etc/dnf/dnf.conf"  # RHEL's; Debian's differs in the last two
  cp "$repo/updates/repodata/repomd.xml.key" "$base/etc/pki/rpm-gpg/RPM-GPG-KEY-lab"
  # shellcheck disable=SC2016  # rpm of the image is asked
  chroot "$base" sh -ec 'rpm --initdb; rpm --import /etc/pki/rpm-gpg/RPM-GPG-KEY-lab; cd /var/cache/lab; rpm -U lab-*.rpm
    rpm -e lab-reboot-sec; rm -f $(rpm -qa --qf "%{nvra}.rpm ")'  # what is left is to be installed where it is wanted
  echo 'setting=changed by hand' > "$base/etc/lab.conf"
}
