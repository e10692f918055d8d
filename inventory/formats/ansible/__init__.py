"""Reader for Ansible inventories (INI and YAML) with their group_vars/ and host_vars/.

It uses no library, for these reasons (checked in 2026):

* ansible-core is the most exact reader. But it is GPL-3.0-or-later, requires cryptography and resolvelib, runs plugins
  and templates while it reads, and does not report the line of a variable.
* nornir-ansible is small and Apache-licensed. But its last release was in 2023, it needs nornir and ruamel.yaml, it
  splits host lines at blanks (which breaks quoted values), and it drops what it does not understand.

It reads the static part of the format: hosts, ranges, groups, children, variables and their precedence. Templates,
vaults, scripts and plugins need Ansible; they cause an error or a warning that names them.
"""
