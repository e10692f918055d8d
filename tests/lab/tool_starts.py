"""Counts the starts of programs on a host with process accounting (acct(5)). Nothing on the host changes."""

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.fleet import LabHost

PROGRAMS = ("dnf", "zypper", "apt-get", "apt-cache", "apt-config", "apt-mark")
_RECORD = struct.Struct("=B47x16s")  # struct acct_v3: ac_flag, …, ac_comm
_FORKED = 0x01  # AFORK: it has executed no program since its fork
_SWITCH = "import ctypes, sys; sys.exit(ctypes.CDLL(None).acct(sys.argv[1].encode() if sys.argv[1:] else None))"


@contextmanager
def count_starts(host: LabHost, folder: Path) -> Iterator[Counter[str]]:
    """Count how often package managers are started until the end of the block. The host may not reboot."""
    records, starts = folder / "starts.acct", Counter[str]()
    records.touch()
    _switch(host, str(records))
    try:
        yield starts
    finally:
        _switch(host)
    for flags, name in _RECORD.iter_unpack(records.read_bytes()):
        program = name.partition(b"\0")[0].decode(errors="replace")
        if program in PROGRAMS and not flags & _FORKED:
            starts[program] += 1
    records.unlink()


def _switch(host: LabHost, *words: str) -> None:
    """Write a record of each process of the host that ends into a file here, or into none from now on."""
    subprocess.run(
        ["nsenter", "--pid", "--target", str(host.first_pid), sys.executable, "-c", _SWITCH, *words], check=True
    )
