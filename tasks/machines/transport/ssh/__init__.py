"""Machines over SSH.

paramiko is loaded here, without the library invoke: it is for the files of OpenSSH's client, which fleetpatch does not
read, and takes half of the time to load.
"""

from inventory.lazy_names import leave_module_out

with leave_module_out("invoke"):
    import paramiko  # noqa: F401
