#!/bin/sh
# Finds the processes that run files which updates have replaced.

# fp_outdated: "uid<tab>program<tab>cgroup" of each process that runs a deleted file
fp_outdated() {
  fp_top=$(fp_cgroup_of 1) fp_top=${fp_top%/} fp_top=${fp_top%/init.scope}
  grep -lE '^[0-9a-f]+-[0-9a-f]+ [r-][w-]x[ps] .* /(usr|opt|s?bin|lib[0-9]*)/.* \(deleted\)$' /proc/[0-9]*/maps 2>/dev/null | while IFS= read -r fp_maps; do
    fp_proc=${fp_maps%/maps} fp_group=$(fp_cgroup_of "${fp_proc#/proc/}")
    printf '%s\t%s\t%s\n' "$(awk '$1 == "Uid:" { print $2 }' "$fp_proc/status")" "$(cat "$fp_proc/comm")" "${fp_group#"$fp_top"}"
  done 2>/dev/null | sort -u
}
fp_cgroup_of() { awk '/:name=systemd:/ || (/^0::/ && found == "") { found = $0; sub(/^[^:]*:[^:]*:/, "", found) } END { print found }' "/proc/$1/cgroup" 2>/dev/null; }
