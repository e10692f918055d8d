#!/bin/sh
# The environment of rpm's package managers: they ask no questions, write each line of their progress at once, end when
# a lock is held instead of waiting for it, and start no programs that restart services by themselves.
# On SUSE, ZYPP_LOCK_TIMEOUT=0 means: do not wait.

PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore ZYPP_LOCK_TIMEOUT=0 NEEDRESTART_SUSPEND=1 PAGER=cat
export PYTHONUNBUFFERED PYTHONWARNINGS ZYPP_LOCK_TIMEOUT NEEDRESTART_SUSPEND PAGER
