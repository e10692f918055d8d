# shellcheck shell=sh
# Simulates the installation of a set of packages. Changes nothing. Parameters: packages (list of names with versions,
# as the tool takes them), keep (list of names: they stay as they are, installed or not), accept_licences ("yes":
# zypper would accept them), lock_wait_seconds. Records: section "simulation", and those of the tool: without keep, also
# what would be downloaded. Its package_queries.sh defines simulate_tool, which gets the packages as arguments.
# Step: assess
# Changes: nothing
# Requires: manager_environment, rpm_query, tool_lock, package_queries

fp_set_param packages
# shellcheck disable=SC2086,SC2154  # package names and versions have no blanks and no wildcards; set by fp_set_param
simulate_tool $packages
fp_ask_rpm
# shellcheck disable=SC2154  # set by fp_ask_rpm
fp_emit state native="$fp_arch"
exit 0
