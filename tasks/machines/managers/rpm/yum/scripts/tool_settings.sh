#!/bin/sh
# As for dnf 4: what yum.conf must not change. With alwaysprompt=0, yum might not ask what --assumeno answers.
# shellcheck disable=SC2034  # used by the scripts that this is put before
# Requires: transaction_flags

tool_settings='--setopt=clean_requirements_on_remove=0 --setopt=upgrade_requirements_on_install=0 --setopt=diskspacecheck=1'
tool_settings="$tool_settings --setopt=alwaysprompt=1 --setopt=color=never --setopt=rpmverbosity=info $(fp_tsflags /etc/yum.conf)"
