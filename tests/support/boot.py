"""What tells a boot of a machine from all others, as the scripts on machines tell it."""

from pathlib import Path

BOOT_FILES = "sys/kernel/random/boot_id", "1/stat"
"""Below /proc: the kernel's boot id, and the first process."""


def read_boot(proc: Path = Path("/proc")) -> str:
    """Return the boot of the machine with this /proc."""
    return parse_boot("".join((proc / name).read_text() for name in BOOT_FILES))


def parse_boot(text: str) -> str:
    """Return the boot from the text of the two files: the boot id and the start of the first process."""
    boot_id, _, stat = text.partition("\n")
    return f"{boot_id}.{stat.rsplit(')', 1)[1].split()[19]}"
