"""Ansible inventories, INI and YAML, with the group_vars/ and host_vars/ beside them.

Read here and not by a library, for these reasons (looked at in 2026):

* ansible-core reads them best, but is GPL-3.0-or-later, brings cryptography and resolvelib along, runs plugins and
  templates while it reads, and does not say in which line a variable stands.
* nornir-ansible is small and Apache-licensed, but had its last release in 2023, needs nornir and ruamel.yaml, splits
  host lines at blanks (so quoted values break), and drops what it does not understand.

What is read is the static part of the format: hosts, ranges, groups, children, variables and their precedence. What
can't be read without running Ansible (templates, vaults, scripts, plugins) is a fault or a warning that names it.
"""
