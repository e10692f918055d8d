"""The commands that enrol a machine for live patches, or end that: what enrol_live_patches.sh runs. Pure.

They are those of the vendors' manuals: Ubuntu Pro Client, Red Hat's kpatch plugin of dnf, SUSE's registration.
"""

from collections.abc import Mapping
from typing import Final

from tasks.domain.model import HotpatchEnrolment
from tasks.rules.hotpatch.status import HotpatchAction

_ENROLL, _UNENROLL, _ENABLE, _DISABLE = HotpatchAction
_KLP_INSTALL: Final = "zypper --non-interactive install -t pattern lp_sles"
_COMMANDS: Final[Mapping[tuple[str, HotpatchAction], tuple[str, ...]]] = {
    ("livepatch", _ENROLL): ("pro enable livepatch --assume-yes",),
    ("livepatch", _ENABLE): ("pro enable livepatch --assume-yes",),
    ("livepatch", _UNENROLL): ("pro disable livepatch --assume-yes",),
    ("livepatch", _DISABLE): ("pro disable livepatch --assume-yes",),
    ("kpatch", _ENROLL): (
        "dnf -y install kpatch kpatch-dnf",
        "dnf -y kpatch auto",
        "systemctl enable kpatch.service",
    ),
    ("kpatch", _ENABLE): ("dnf -y kpatch auto", "systemctl enable kpatch.service"),
    ("kpatch", _DISABLE): ("dnf -y kpatch manual",),
    ("kpatch", _UNENROLL): ("dnf -y kpatch manual", "systemctl disable kpatch.service"),
    ("klp", _ENROLL): ("SUSEConnect -p {product}", _KLP_INSTALL),
    ("klp", _ENABLE): (_KLP_INSTALL,),
    ("klp", _UNENROLL): ("SUSEConnect -d -p {product}",),
}
"""The commands of enrol_live_patches.sh, by provider and action."""


def find_commands(enrolment: HotpatchEnrolment | None, action: HotpatchAction) -> tuple[str, ...]:
    """Return the commands for an action on a machine; empty when its vendor documents none."""
    if enrolment is None:
        return ()
    commands = _COMMANDS.get((enrolment.provider, action), ())
    return tuple(command.format(product=enrolment.product) for command in commands)
