"""Writes GRUB and a table of partitions to the beginning of a disk, as GRUB's own installation leaves them.

    partition.py DISK FOLDER BEGIN SIZE...

FOLDER has GRUB's ``boot.img`` and ``core.img``. BEGIN and the partitions' SIZEs are MiB. Needs nothing but
the standard library.
"""

import struct
import sys
from pathlib import Path

_LINUX = 0x83
_SECTORS_PER_MIB = 2048
_LOADER = 440
"""Bytes of GRUB's first sector that are its own."""


def main(arguments: list[str]) -> None:
    """Write to the disk."""
    disk, folder = (Path(argument) for argument in arguments[:2])
    begin, *sizes = (int(argument) * _SECTORS_PER_MIB for argument in arguments[2:])
    boot, core = ((folder / name).read_bytes() for name in ("boot.img", "core.img"))
    if len(core) > (begin - 1) * 512:
        sys.exit(f"partition.py: {folder / 'core.img'} has no room before the first partition")
    table = b""
    for size in sizes:
        # an old address (cylinder, head, sector) of its largest value says that the new ones count
        far = b"\xfe\xff\xff"
        active = 0x80 if not table else 0
        table += struct.pack("<B3sB3sII", active, far, _LINUX, far, begin, size)
        begin += size
    identity = struct.pack("<IH", 0x6C616200, 0)
    first = boot[:_LOADER] + identity + table.ljust(64, b"\0") + b"\x55\xaa"
    with disk.open("r+b") as out:
        out.write(first + core)


main(sys.argv[1:])
