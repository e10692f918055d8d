#!/bin/sh
# Functions of awk that read what a process is.

# cgroup_of(pid): the cgroup that its service manager sees, with the folder of the first process; program_of(pid): its name;
# own_cgroup_of(pid): the cgroup as the machine's own service manager sees it: in a container, it is below its host's
# shellcheck disable=SC2034,SC2016  # used by the scripts that this is put before; awk's $
fp_processes='
  function cgroup_of(pid,   file, line, found) {
    file = "/proc/" pid "/cgroup"
    while ((getline line <file) > 0)
      if (line ~ /:name=systemd:/ || (line ~ /^0::/ && found == "")) { found = line; sub(/^[^:]*:[^:]*:/, "", found) }
    close(file)
    return found
  }
  function own_cgroup_of(pid,   found) {
    if (top == "") { top = cgroup_of(1); sub(/\/(init\.scope)?$/, "", top); top = top "/" }
    found = cgroup_of(pid)
    return index(found, top) == 1 ? substr(found, length(top)) : found
  }
  function program_of(pid,   file, line) {
    file = "/proc/" pid "/comm"
    if ((getline line <file) <= 0) line = ""
    close(file)
    return line
  }
'
