#!/bin/sh
# How the prelude makes the environment. It is the same for each script, in a login and in a job: the variables of
# /etc/environment, as pam_env reads them, and over them the proxies of the login. All others are removed: what sudo,
# sshd, systemd or a start-up file sets is not the same everywhere. A job gets the proxies of job_start (job_run.sh).
# Step: connect
# Changes: nothing

# shellcheck disable=SC2034  # facts.sh reads it
fp_way=root # how the script came to its rights
[ -z "${SUDO_UID:-}" ] || fp_way=sudo
[ -z "${DOAS_USER:-}" ] || fp_way=doas
# shellcheck disable=SC2016,SC2034  # awk's $; the prelude executes it
fp_environment='
  function is_valid(name) { return name ~ /^[A-Za-z_][A-Za-z0-9_]*$/ && name !~ own }
  function is_proxy(name) { return tolower(name) ~ /^(http|https|ftp|all|no)_proxy$/ }
  BEGIN {
    own = "^(PATH|HOME|LANG|LANGUAGE|LC_.*|TERM|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|IFS|ENV|BASH_ENV|CDPATH|GREP_OPTIONS" \
      "|POSIXLY_CORRECT|U?ID|EUID|PPID|OPTIND|SHELLOPTS|BASHOPTS|FP_.*|fp_.*)$"
    for (name in ENVIRON) if (is_valid(name) && !is_proxy(name)) print "unset " name
    while ((getline line <"/etc/environment") > 0) {
      sub(/^[ \t]+/, "", line); sub(/^export /, "", line); sub(/[ \t\r]*(#.*)?$/, "", line)
      name = substr(line, 1, index(line, "=") - 1); value = substr(line, length(name) + 2)
      if (!is_valid(name) || (is_proxy(name) && name in ENVIRON)) continue
      if (value ~ /^["\047]/) { value = substr(value, 2); sub(/["\047]$/, "", value) }
      gsub(/\047/, "\047\\\047\047", value)
      print name "=\047" value "\047; export " name
    }
  }
'
