"""Compares the policy that a process has read with those that were deployed. Pure.

`fleetpatch deploy` records which policy holds. A process that finds no such policy was set up wrongly, or somebody has
edited the file: without a comparison it would begin runs that the pages and `config check` call forbidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.rules.policy.model import PolicyFile


@dataclass(frozen=True, slots=True)
class DeployedPolicy:
    """The policy files that held where a fleet was deployed.

    Attributes:
        fleet: the name of the set of configurations.
        at: when it was recorded.
        files: at least one.
    """

    fleet: str
    at: datetime
    files: tuple[PolicyFile, ...]


def describe_difference(deployed: Sequence[DeployedPolicy], here: Sequence[PolicyFile]) -> str:
    """Return why a process may begin no run, with the remedy; "" if it has a policy that was deployed, or none was.

    More files are allowed: no rule allows what another one refuses. Of several fleets with the same records, the policy
    of one is enough.

    Args:
        deployed: of each fleet, the newest first.
        here: the files that this process has read.
    """
    digests = {file.digest for file in here}
    gaps = [
        (deployed_policy, [file for file in deployed_policy.files if file.digest not in digests])
        for deployed_policy in deployed
    ]
    if not gaps or any(not missing for _, missing in gaps):
        return ""
    paths = {file.path for file in here}
    policy, missing = min(gaps, key=lambda gap: not any(file.path in paths for file in gap[1]))
    edited = next((file.path for file in missing if file.path in paths), "")
    when = f"{policy.at:%Y-%m-%d %H:%M} UTC"
    if edited:
        return (
            f"the policy {edited} is not the one that `fleetpatch deploy` recorded on {when}: it was edited, or this "
            f"machine has another copy. Deploy again to let the edited one hold, or correct the copy"
        )
    files = f"it reads {', '.join(file.path for file in here)}" if here else "it reads none"
    return (
        f"the policy {missing[0].path}, which `fleetpatch deploy` recorded on {when}, is not read by this process: "
        f"{files}. Set FLEETPATCH_CONFIGURATIONS to the folder of that file (with units: in worker.env) and restart; "
        f"on another machine, copy the file there. If it is to hold no more, deploy again"
    )
