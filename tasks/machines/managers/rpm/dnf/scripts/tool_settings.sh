#!/bin/sh
# What dnf.conf must not change: it decides which versions come, and not what installing them means.
# docs/reference/platforms.md has the list.
# shellcheck disable=SC2034  # used by the scripts that this is put before
# Requires: transaction_flags

tool_settings='--setopt=strict=True --setopt=skip_broken=False --setopt=clean_requirements_on_remove=False'
tool_settings="$tool_settings --setopt=protect_running_kernel=True --setopt=diskspacecheck=True --setopt=color=never"
tool_settings="$tool_settings $(fp_tsflags /etc/dnf/dnf.conf)"
