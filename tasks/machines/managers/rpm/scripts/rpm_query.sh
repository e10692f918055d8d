#!/bin/sh
# Functions that read rpm's database for the scripts of all RPM families.

# fp_rpm_query WORDS…: installed packages, one a line: name, epoch, version, release, architecture, install time (epoch
# seconds) and vendor, separated by tabs. Words: -a, or names; a name that is not installed is no failure, and has a line
# "package … is not installed". Keys (gpg-pubkey) are among the packages. With "-a", rpm takes
# the place of this shell.
fp_rpm_query() {
  # shellcheck disable=SC2016  # rpm's %
  set -- -q --qf '%{NAME}\t%|EPOCH?{%{EPOCH}}:{0}|\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{INSTALLTIME}\t%{VENDOR}\n' "$@"
  [ "$4" != -a ] || exec rpm "$@"
  rpm "$@" || :
}

# shellcheck disable=SC2034  # used by the scripts that this is put before
fp_ask_rpm() { # sets fp_arch to its architecture, and fp_rpm_home to the folder of its database
  fp_rpm_home=$(rpm --eval '%{_arch}:%{_dbpath}' 2>/dev/null) || fp_rpm_home=$(uname -m):
  fp_arch=${fp_rpm_home%%:*} fp_rpm_home=${fp_rpm_home#*:}
}

# fp_rpm_stamp FOLDER: of the files of rpm's database, which each change of packages writes again; in place of this shell
fp_rpm_stamp() { exec stat -c '%n %i %y %s' "$1"/rpmdb.sqlite "$1"/Packages* 2>/dev/null; }
