#!/bin/sh
# How a job of apt downloads, and how it prevents downloads while packages change. See apt_job.sh.
# shellcheck disable=SC2034,SC2154  # variables of apt_job.sh, and for it

download() { # NAME=VERSION…: what is missing; returns 1 if the time is then over or a stop is requested, with its record
  run_apt --download-only install "$@"; result=$?
  if [ "$result" -ne 0 ] && [ -z "$ended_for" ]; then
    case $(complaint) in fetch:*) # "update" finds files that have moved
      fp_while_in_time exec_apt update
      [ -n "$ended_for" ] || { fp_mark_log; run_apt --download-only install "$@"; result=$?; } ;;
    esac
  fi
  ! fp_not_begun
}

# shellcheck disable=SC2016  # awk's $, not the shell's
all_local='/^\047/ { all++; if ($1 ~ /^\047(file|cdrom):/) here++ } END { exit !(here && here == all) }'

forbid_download() { # WORDS… of apt-get: prints the option that prevents downloads while packages change
  # Packages of a repository on the machine itself are not copied, and apt with --no-download does not look there.
  fp_apt_get -y --print-uris "$@" 2>/dev/null | awk "$all_local" || lines --no-download
}
is_downloaded() { # WORDS… of apt-get: whether it says that it has all files; those of a repository on the machine itself it never has
  fp_apt_get -y --print-uris "$@" 2>/dev/null | awk '/^Need to get 0 B\// { whole = 1 } /^\047/ { asks = 1 } END { exit !(whole && !asks) }'
}

# fetch NAME=VERSION…: before an installation: what is still missing; returns 1, with the record that says why, if nothing can
# be installed. Sets without_download to the option for the installation.
# shellcheck disable=SC2086  # $removals is a word, or none
fetch() {
  without_download=--no-download
  if is_downloaded $removals install "$@"; then return; fi # mostly: a start of apt takes longer than the question
  download "$@" || return 1
  if [ "$result" -ne 0 ]; then ended "$result"; return 1; fi
  without_download=$(forbid_download $removals install "$@")
}
