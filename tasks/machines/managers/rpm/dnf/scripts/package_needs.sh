#!/bin/sh
# Which packages somebody has chosen, and which nothing needs, as dnf's history has it. Without repositories: none is read.

fp_ask_installed() { dnf -q -C repoquery --disablerepo='*' --qf '%{name}.%{arch}' "$@"; }
chosen() { fp_ask_installed --userinstalled "$@"; } # NAME…: of these
needless() { fp_ask_installed --unneeded; } # of all
