#!/bin/sh
# The environment of apt: it asks no questions and shows no changelogs, and needrestart restarts no services by itself.
# Nothing else: a package's scripts get what they get by hand. So ucf has no order of ours, which a machine's ucf.conf or
# a package may contradict (ucf then ends with an error); it keeps an edited file where nobody can be asked.

DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none
export DEBIAN_FRONTEND NEEDRESTART_SUSPEND APT_LISTCHANGES_FRONTEND
