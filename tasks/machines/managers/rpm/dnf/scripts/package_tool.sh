#!/bin/sh
# What a job does with dnf 4. See rpm_job.sh for the functions.
# Exact versions are installed with "install": of an installed package, it keeps the note whether a person chose it.
# Without --allowerasing, dnf removes nothing but what a chosen version replaces.
# Requires: yum_family, tool_settings, dnf_process
# shellcheck disable=SC2034,SC2154  # variables of rpm_job.sh, and for it

# Whatever dnf.conf says, dnf writes what it does and why it fails.
common='-d 2 -e 3 --rpmverbosity=info --best --setopt=exit_on_lock=True --setopt=keepcache=True'
# One repository that does not answer must not keep the others from being used, as in an assessment. What was read then
# is good enough: if a file has moved meanwhile, tool_renew reads the repositories again. What was never read is left out:
# dnf would read it before it downloads, however long that takes.
common="$common $tool_settings --setopt=*.skip_if_unavailable=True --setopt=*.metadata_expire=-1"
# Only these words let dnf change packages. A simulation must never have them: they are stronger than --assumeno.
dnf_words="-y --setopt=assumeno=False $common"

simulates_downloads=yes # it names the repositories to leave out
# shellcheck disable=SC2086  # words
{
  tool_simulate() { # "Operation aborted." is what a simulation ends with
    dnf $common -v -C --assumeno install "$@"; code=$?
    [ "$code" -eq 0 ] || grep -q '^Operation aborted' "$FP_JOB_DIR/rpm-said" || return "$code" # 200: a lock
  }
  tool_download() { download_known --downloadonly install "$@"; }
  tool_download_again() { download_known --downloadonly reinstall "$@"; }
  tool_download_and_test() { download_known --setopt=tsflags=test install "$@"; }
  download_known() { # OPTION VERB PACKAGES
    ignored=$(sed -n '/^Ignoring repositories: /{s///;s/ //g;p;}' "$FP_JOB_DIR/rpm-said") # by the last simulation
    exec dnf $dnf_words ${ignored:+--disablerepo="$ignored"} "$@"
  }
  tool_renew() { exec dnf $dnf_words makecache --refresh; }
  tool_install() {
    dnf $dnf_words -C --comment="$comment/$number" install "$@"; code=$?
    [ "$code" -ne 0 ] || discard
    return "$code"
  }
  tool_install_again() { dnf $dnf_words -C --comment="$comment/$number" reinstall "$@"; }
}

tool_folders() { sed -n 's/^cachedir: \(.*\)/\1\/*\/packages/p' "$FP_JOB_DIR/rpm-said"; }

tool_inputs() { # "-C" and the options let nothing change the copies but a new read
  folder=$(sed -n -e '/^reposdir/s/.*/:&/p' -e 's/^cachedir *= *//p' /etc/dnf/dnf.conf 2>/dev/null)
  case $folder in *:reposdir*) return 0 ;; esac # the repositories' settings are elsewhere
  folder=${folder##*"$fp_newline"}
  lines inputs
  find -L /etc/dnf /etc/yum.repos.d /etc/distro.repos.d /etc/yum "${folder:-/var/cache/dnf}"/*/repodata -type f \
    -printf '%p %i %C@ %s\n' 2>/dev/null
}
tool_undo() { fp_start_dnf; find_undo dnf fp_ask_dnf 0; } # started anew: dnf itself may be another version now
