"""Machines over SSH.

paramiko is loaded here, without the library invoke: it is for the files of OpenSSH's client, which fleetpatch does not
read, and takes half of the time to load.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_is_absent = _modules.setdefault("invoke", None) is None  # who imports it is told that it is not installed
import paramiko  # noqa: E402, F401

if _is_absent:
    del _modules["invoke"]
