#!/bin/sh
# Finds the processes that run files which updates have replaced.
# Requires: cgroups
# shellcheck disable=SC2154  # variables of cgroups.sh

# fp_outdated: "uid<tab>program<tab>cgroup" of each process that runs a deleted file. A session of sshd is not its service:
# it outlives the restart, and ends with its login. A process of a container below a service runs files of the container.
# Files in temporary folders, of JNA, Netty and the like are deleted by who loads them: no update has replaced them.
fp_outdated() { # its exit code is that of awk
  fp_using=$(grep -HE '^[0-9a-f]+-[0-9a-f]+ [r-][w-]x[ps] .* /(usr|opt|s?bin|lib[0-9]*)/.* \(deleted\)$' /proc/[0-9]*/maps 2>/dev/null | awk "$fp_processes"'
    function uid_of(pid,   file, line, word, ids) { # and whether it has another id in a namespace of its own
      file = "/proc/" pid "/status"; word[2] = ""; nested = 0
      while (!nested && (getline line <file) > 0) {
        if (line ~ /^Uid:/) split(line, word, /[ \t]+/)
        if (line ~ /^NSpid:/) nested = split(line, ids, /[ \t]+/) > 2
      }
      close(file)
      return word[2]
    }
    function is_session(pid,   file, line) {
      file = "/proc/" pid "/cmdline"; line = ""
      getline line <file
      close(file)
      return line ~ /^sshd[a-z-]*: / && line !~ /\[listener\]/
    }
    /\/(tmp|temp)\/|\/jna[0-9]+[.]tmp|\/libnetty_|\/orcexec[.]|\/#[0-9]+ / { next }
    { pid = $0; sub(/^\/proc\//, "", pid); sub(/\/.*/, "", pid) }
    seen[pid]++ { next }
    { uid = uid_of(pid) }
    nested && own_cgroup_of(pid) ~ /[.]service\/./ { next }
    uid != "" && !is_session(pid) { print uid "\t" program_of(pid) "\t" own_cgroup_of(pid) }') || return
  [ -z "$fp_using" ] || printf '%s\n' "$fp_using" | sort -u
}
