"""The services of a machine, and the ports that they listen on."""

from datetime import datetime

from inventory.data_class import dataclass


@dataclass(frozen=True, slots=True)
class Listener:
    """A program that listens on "protocol/port", and its systemd unit. Program and unit are "" when unknown."""

    name: str
    program: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """One run of a service: from a start to its end.

    Attributes:
        run: names the run: systemd's InvocationID, or its process and the start of that; "" if not known.
        restarts: how often systemd has started it again by itself since somebody started it; None: systemd before 235,
            and Windows.
        age_seconds: since its start; None if not known.
        restarts_itself: whether the system starts it again when it ends.
        is_between: it has ended, and the system is about to start it again.
    """

    name: str
    run: str = ""
    restarts: int | None = None
    age_seconds: float | None = None
    restarts_itself: bool = False
    is_between: bool = False


@dataclass(frozen=True, slots=True)
class Services:
    """The failed units, and the ports that services listen on, as "protocol/port".

    Attributes:
        failed: services that the system starts by itself, and that do not run although they did not end by themselves;
            where systemd is, the failed units of every type.
        listening: ports of services only, without ephemeral ports and users' own programs.
        listeners: the same ports with their programs.
        running: services that the system starts by itself, and that run. Empty where the service manager itself says
            which services have failed: then these need no comparison.
        ended: services that the system starts by itself, and that ended without an error, or were stopped.
        late: those of ``failed`` that the system starts only some time after the boot, and has not started yet.
        late_start_seconds: that time.
        active_units: the active units of systemd, of every type, that have a file. Read only before the first change
            and after the last one, and not stored with assessments and outcomes.
        runs: of the services that run or are about to be started again. Read and stored like ``active_units``.
    """

    failed: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    known: bool = True  # False when the machine can't report its services
    listeners: tuple[Listener, ...] = ()
    running: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    late_start_seconds: float = 0.0
    active_units: tuple[str, ...] = ()
    runs: tuple[ServiceRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Settling:
    """What the first look at a changed machine saw, and when the second one is due."""

    looked_at: datetime
    until: datetime
    runs: tuple[ServiceRun, ...] = ()
