#!/bin/sh
# As for dnf 4: what dnf.conf and its drop-ins must not change.
# shellcheck disable=SC2034  # used by the scripts that this is put before
# Requires: transaction_flags

tool_settings='--setopt=skip_broken=False --setopt=skip_unavailable=False --setopt=clean_requirements_on_remove=False'
tool_settings="$tool_settings --setopt=protect_running_kernel=True --setopt=diskspacecheck=True"
tool_settings="$tool_settings $(fp_tsflags /usr/share/dnf5/libdnf.conf.d/*.conf /etc/dnf/libdnf5.conf.d/*.conf /etc/dnf/dnf.conf)"
