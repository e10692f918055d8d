"""Services that run files which updates have replaced, from the lines of outdated_programs.sh. Pure."""

from collections.abc import Iterable

from tasks.rules.machine_checks.services import find_service_unit


def find_outdated_services(outdated: str) -> tuple[str, ...]:
    """Return the services of processes that run replaced files, without those of our own jobs.

    A job that replaced its own shell or systemd is then at its end or near it: there is nothing to restart.

    Args:
        outdated: a line "uid<tab>program<tab>cgroup" for each such process.
    """
    return without_own_jobs(sorted({_parse_service(line) for line in outdated.splitlines()}))


def without_own_jobs(units: Iterable[str]) -> tuple[str, ...]:
    """Return the units that are not fleetpatch's own, each once."""
    return tuple(unit for unit in dict.fromkeys(units) if unit and not unit.startswith("fleetpatch-"))


def _parse_service(line: str) -> str:
    uid, _, rest = line.partition("\t")
    program, _, cgroup = rest.rpartition("\t")
    unit = find_service_unit(int(uid) if uid.isascii() and uid.isdigit() else None, program, cgroup)
    return unit if unit.endswith(".service") else ""
