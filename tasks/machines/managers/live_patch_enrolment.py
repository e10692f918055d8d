"""Whether a machine is enrolled for live patches, what it lacks, and the commands that enrol it or end that. Pure.

live_patch_enrolment.sh reports it. How a provider's own words mean the statuses of Azure:

- Ubuntu: attached to Ubuntu Pro is enrolled, and the service livepatch is enabled or not.
- RHEL: the dnf plugin of kpatch is installed is enrolled, and it installs live patches automatically or not.
- SUSE Linux Enterprise: the Live Patching module is activated is enrolled, and its pattern is installed or not.

enrol_live_patches.sh runs the commands. They are those of the vendors' manuals: Ubuntu Pro Client, Red Hat's kpatch
plugin of dnf, SUSE's registration.
"""

from collections.abc import Mapping
from typing import Final

from tasks.domain.model import Finding, HotpatchEnrolment
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.domain.states import FindingLevel
from tasks.machines.managers.script_output import ScriptSection, find_pro_attribute, get_text, require_text
from tasks.rules.hotpatch import HotpatchAction

SUSE_MODULE = "sle-module-live-patching"
_SUBSCRIPTION_CHECK = "subscription"
_SERVICE_CHECK = "service"
_GOOD, _WARN, _BLOCK = FindingLevel.GOOD, FindingLevel.WARN, FindingLevel.BLOCK


def parse_live_patch_enrolment(result: ScriptResult, sections: Mapping[str, ScriptSection]) -> HotpatchEnrolment | None:
    """Return what a machine says of its enrolment; None without a provider whose means are documented.

    The script calls ``assess_live_patch_enrolment``.

    Raises:
        ProtocolViolation: a record is malformed.
    """
    records = result.find_records("live_patch_enrolment")
    if not records:
        return None
    readers = {"livepatch": _read_livepatch, "kpatch": _read_kpatch, "klp": _read_klp}
    reader = readers.get(require_text(records[0], "provider"))
    return reader(records[0], sections) if reader else None


def _read_livepatch(_: ScriptRecord, sections: Mapping[str, ScriptSection]) -> HotpatchEnrolment:
    attached = find_pro_attribute(get_text(sections, "pro_attached"), "is_attached")
    services = find_pro_attribute(get_text(sections, "pro_services"), "enabled_services")
    is_attached = attached if isinstance(attached, bool) else None
    is_enabled = None
    if isinstance(services, list):
        is_enabled = any(isinstance(service, dict) and service.get("name") == "livepatch" for service in services)
    if is_attached is None:
        message = "Ubuntu Pro's client did not say whether it is attached"
        finding = Finding(_SUBSCRIPTION_CHECK, _WARN, message, "On the machine: pro status.")
    elif is_attached:
        finding = Finding(_SUBSCRIPTION_CHECK, _GOOD, "it is attached to Ubuntu Pro")
    else:
        remedy = "On the machine: pro attach, with the token of your subscription."
        finding = Finding(_SUBSCRIPTION_CHECK, _BLOCK, "it is not attached to Ubuntu Pro", remedy)
    return HotpatchEnrolment("livepatch", "pro", is_attached, is_enabled, prerequisites=(finding,))


def _read_kpatch(record: ScriptRecord, _: Mapping[str, ScriptSection]) -> HotpatchEnrolment:
    has_plugin, is_automatic = _is_yes(record, "plugin"), _is_yes(record, "automatic")
    findings = []
    if has_plugin and is_automatic and not _is_yes(record, "service"):
        message = "kpatch.service is not enabled: after a boot, live patches are not loaded"
        findings.append(Finding(_SERVICE_CHECK, _WARN, message, "On the machine: systemctl enable kpatch.service"))
    return HotpatchEnrolment("kpatch", "dnf", has_plugin, has_plugin and is_automatic, prerequisites=tuple(findings))


def _read_klp(record: ScriptRecord, _: Mapping[str, ScriptSection]) -> HotpatchEnrolment:
    has_module, has_pattern = _is_yes(record, "module"), _is_yes(record, "pattern")
    version, arch = require_text(record, "version"), require_text(record, "arch")
    findings = []
    major = version.partition(".")[0]
    if not (major.isascii() and major.isdigit()) or int(major) < 15:
        message = "on SUSE Linux Enterprise 12, Live Patching needs a registration code of its own"
        findings.append(Finding(_SUBSCRIPTION_CHECK, _BLOCK, message, "Activate it there with SUSEConnect."))
    product = f"{SUSE_MODULE}/{version}/{arch}"
    return HotpatchEnrolment("klp", "suseconnect", has_module, has_module and has_pattern, product, tuple(findings))


def _is_yes(record: ScriptRecord, name: str) -> bool:
    return require_text(record, name) == "yes"


_ENROLL, _UNENROLL, _ENABLE, _DISABLE = HotpatchAction
_KLP_INSTALL: Final = "zypper --non-interactive install -t pattern lp_sles"
_COMMANDS: Final[Mapping[tuple[str, HotpatchAction], tuple[str, ...]]] = {
    ("livepatch", _ENROLL): ("pro enable livepatch --assume-yes",),
    ("livepatch", _ENABLE): ("pro enable livepatch --assume-yes",),
    ("livepatch", _UNENROLL): ("pro disable livepatch --assume-yes",),
    ("livepatch", _DISABLE): ("pro disable livepatch --assume-yes",),
    ("kpatch", _ENROLL): ("dnf -y install kpatch kpatch-dnf", "dnf -y kpatch auto", "systemctl enable kpatch.service"),
    ("kpatch", _ENABLE): ("dnf -y kpatch auto", "systemctl enable kpatch.service"),
    ("kpatch", _DISABLE): ("dnf -y kpatch manual",),
    ("kpatch", _UNENROLL): ("dnf -y kpatch manual", "systemctl disable kpatch.service"),
    ("klp", _ENROLL): ("SUSEConnect -p {product}", _KLP_INSTALL),
    ("klp", _ENABLE): (_KLP_INSTALL,),
    ("klp", _UNENROLL): ("SUSEConnect -d -p {product}",),
}
"""The commands of enrol_live_patches.sh, by provider and action."""


def find_enrolment_commands(enrolment: HotpatchEnrolment | None, action: HotpatchAction) -> tuple[str, ...]:
    """Return the commands for an action on a machine; empty when its vendor documents none."""
    if enrolment is None:
        return ()
    commands = _COMMANDS.get((enrolment.provider, action), ())
    return tuple(command.format(product=enrolment.product) for command in commands)
