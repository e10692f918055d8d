"""What a simulated machine was asked for, as the machine saw it."""

from dataclasses import dataclass, field
from datetime import datetime

from tasks.domain.protocols.transport import Job

KNOWN_SCRIPTS = frozenset(
    [
        "facts",
        "reboot",
        "reboot_obstacles",
        "next_boot",
        "lock",
        "machine_lock",
        "probe",
        "host_identity",
        "job_stop",
        "fake_assess",
        "fake_simulate",
        "fake_installed",
        "fake_kernels",
        "fake_needs",
        "fake_updaters",
    ]
)


@dataclass(frozen=True, slots=True)
class Handed:
    """A job as it reached the machine."""

    at: datetime
    job: Job
    skew: float
    run_id: str


@dataclass
class Orders:
    """What a machine was asked for: (moment, run, expected boot id) of each reboot that it took on."""

    jobs: list[Handed] = field(default_factory=list)
    reboots: list[tuple[datetime, str, str]] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
