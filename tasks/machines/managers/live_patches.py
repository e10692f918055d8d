"""Reads what live_patches.sh reports, and decides whether live patches mitigate a pending reboot. Pure.

A pending reboot is mitigated only if the new kernel is the only reason for it, the live patches have no problem, and
one of these is true:

- The provider says so: Ubuntu's Pro client (``yes-kernel-livepatches-applied``), or Ksplice, when its effective kernel
  is at least as new as each newer installed kernel.
- The changelogs of the newer installed kernels name CVEs, and the loaded live patches fix all of those. A kernel may
  fix more than its changelog names.

In every other case it is not mitigated.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from inventory.data_class import dataclass
from tasks.domain.model import LivePatching, RebootNeed
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.script_output import ScriptSection, find_pro_attribute, require_text

_MAX_NAMES = 500
_MAX_CVES = 5_000
_CVE_PATTERN = re.compile(r"\bCVE-[0-9]{4}-[0-9]{4,10}\b", re.IGNORECASE)
_RELEASE_PATTERN = re.compile(r"([0-9]{1,9}(?:[.-][0-9]{1,9})*)(?:\.([A-Za-z].*))?")
_KSPLICE_UPDATE_PATTERN = re.compile(r"^[ \t]*\[([a-z0-9]{1,20})\] (.*)$", re.MULTILINE)
_KSPLICE_EFFECTIVE_PATTERN = re.compile(r"^[ \t]*Effective kernel version is (\S{1,200})[ \t]*$", re.MULTILINE)
_KSPLICE_DETECTION_TEXT = "known exploit detection"  # such an update reports attacks; it fixes nothing
_KLP_ACTIVE_PATTERN = re.compile(r"^[ \t]+active: *1 *$", re.MULTILINE)
_CANONICAL_GOOD_STATES = frozenset({"applied", "nothing-to-apply"})
_KERNEL_PATCHED_ANSWER = "yes-kernel-livepatches-applied"
_MAX_EPOCH_SECONDS = 10**11  # in the year 5138: a later time is no time of an installation
_TIME_OVER_CODES = frozenset({124, 137})  # timeout(1): it ended the tool, or had to kill it


@dataclass(frozen=True, slots=True)
class _OtherKernel:
    """An installed kernel that is not running. ``relation`` to the running one: "newer", "older" or "unknown"."""

    release: str
    relation: str
    cves: frozenset[str]


def parse_live_patches(result: ScriptResult, sections: Mapping[str, ScriptSection]) -> LivePatching | None:
    """Return what is known of live patches; None when there are none and no tool for them is in use.

    The script calls ``assess_live_patches``.

    Raises:
        ProtocolViolation: a record is malformed.
    """
    summaries = result.find_records("live_patching")
    if not summaries:
        return None
    kernel = require_text(summaries[0], "kernel")
    loaded = result.find_records("live_patch")
    active = tuple(
        require_text(live_patch, "name")
        for live_patch in loaded
        if require_text(live_patch, "enabled") == "1" and require_text(live_patch, "transition") == "0"
    )[:_MAX_NAMES]
    in_transition = [
        require_text(live_patch, "name") for live_patch in loaded if require_text(live_patch, "transition") == "1"
    ]
    other_kernels = [
        _OtherKernel(
            require_text(record, "release"),
            require_text(record, "relation"),
            frozenset(_find_cves([require_text(record, "cves")])),
        )
        for record in result.find_records("other_kernel")
    ]
    if "canonical_livepatch" in sections:
        pro_section = sections.get("pro_reboot_required")
        live = _read_canonical(sections["canonical_livepatch"], pro_section.text if pro_section else "", active)
    elif "ksplice" in sections:
        live = _read_ksplice(sections["ksplice"], other_kernels)
    elif "klp" in sections:
        live = _read_klp(sections["klp"], active)
    else:
        live = _read_kpatch(result.find_records("live_patch_package"), active, kernel)
    if in_transition and not live.problem:
        live = replace(live, state="in transition", problem=f"{in_transition[0]} is not in use everywhere yet")
    unfixed = _find_unfixed_cves(live.cves, other_kernels)
    return replace(live, kernel=kernel, cves=None if live.cves is None else live.cves[:_MAX_CVES], unfixed_cves=unfixed)


def mitigate_reboot(need: RebootNeed, live: LivePatching | None, *, only_kernel: bool) -> RebootNeed:
    """Return a reboot need with ``mitigated_by``, if live patches mitigate it as the module docstring describes.

    ``only_kernel``: a newer kernel is the only reason for the reboot.
    """
    if need.answer is not YesNoUnknown.YES or not only_kernel or live is None or live.problem:
        return need
    if live.assurance:
        return replace(need, mitigated_by=f"{live.provider}: {live.assurance}")
    if live.patches and live.unfixed_cves == ():
        names = ", ".join(live.patches[-3:])
        return replace(
            need, mitigated_by=f"{live.provider}: {names} fixes all CVEs that the newer kernel's changelog names"
        )
    return need


def date_newer_kernel(installed: Iterable[int | None]) -> datetime | None:
    """Return when the first of the newer kernels was installed; None when that is not known of any.

    ``installed`` has seconds since 1970, or None, for each kernel that is newer than the running one.
    """
    known_times = [seconds for seconds in installed if seconds is not None and 0 < seconds < _MAX_EPOCH_SECONDS]
    return datetime.fromtimestamp(min(known_times), UTC) if known_times else None


def _find_cves(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name.upper() for text in texts for name in _CVE_PATTERN.findall(text)}))


def _find_unfixed_cves(fixed: Sequence[str] | None, kernels: Sequence[_OtherKernel]) -> tuple[str, ...] | None:
    """Return the CVEs that newer kernels fix and ``fixed`` lacks.

    None when these are not known: no newer kernel, one that is neither newer nor older, or one whose changelog names
    no CVE (not every distribution does).
    """
    newer = [kernel for kernel in kernels if kernel.relation != "older"]
    if fixed is None or not newer or any(kernel.relation != "newer" or not kernel.cves for kernel in newer):
        return None
    return tuple(sorted(frozenset[str]().union(*(kernel.cves for kernel in newer)) - frozenset(fixed)))[:_MAX_CVES]


def _describe_failure(section: ScriptSection, tool: str) -> str:
    """Return why a tool gave no usable answer, in one line."""
    if section.exit_code in _TIME_OVER_CODES:
        return f"{tool} gave no answer in time"
    error_text = " ".join((section.stderr or section.text).split())[:200]
    return f"{tool} could not tell its status (exit code {section.exit_code}{f': {error_text}' if error_text else ''})"


def _read_canonical(section: ScriptSection, pro_answer: str, active: tuple[str, ...]) -> LivePatching:
    tool = "canonical-livepatch"
    try:
        status = next(load for load in json.loads(section.text)["Status"] if load["Running"] is True)
        patch = status["Livepatch"]
        fixed = [str(fix["Name"])[:50] for fix in patch.get("Fixes") or () if fix["Patched"] is True]
        state, check = (str(patch[key])[:50] or "unknown" for key in ("State", "CheckState"))
        support = str(status.get("Supported") or "")[:50]  # "" in older versions
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
        if "not enabled" in f"{section.text} {section.stderr}".lower():
            return LivePatching(tool, "not enabled", patches=active)
        return LivePatching(tool, "unknown", patches=active, problem=_describe_failure(section, tool))
    problems = [
        "" if state in _CANONICAL_GOOD_STATES else f"its state is {state}",
        "" if check == "checked" else f"its last check: {check}",
        "" if support in {"supported", ""} else f"its support of this kernel: {support}",
    ]
    problem = "; ".join(filter(None, problems))
    # "nothing-to-apply" is no assurance: perhaps there is no live patch for this kernel
    answer = find_pro_attribute(pro_answer, "reboot_required")
    is_patched = not problem and state == "applied" and answer == _KERNEL_PATCHED_ANSWER
    return LivePatching(
        tool,
        state,
        patches=active,
        cves=_find_cves(fixed),
        problem=problem,
        assurance="the Ubuntu Pro client says that the running kernel has its live patches" if is_patched else "",
    )


def _read_ksplice(section: ScriptSection, kernels: Sequence[_OtherKernel]) -> LivePatching:
    effective = _KSPLICE_EFFECTIVE_PATTERN.search(section.text)
    if section.exit_code != 0 or effective is None:
        return LivePatching("ksplice", "unknown", problem=_describe_failure(section, "ksplice"))
    updates = _KSPLICE_UPDATE_PATTERN.findall(section.text)
    fixes = [title for _, title in updates if not title.lower().startswith(_KSPLICE_DETECTION_TEXT)]
    newer = [kernel for kernel in kernels if kernel.relation != "older"]
    is_current = bool(newer) and all(_is_at_least(effective[1], kernel.release) for kernel in newer)
    return LivePatching(
        "ksplice",
        f"effective kernel {effective[1]}",
        patches=tuple(name for name, _ in updates)[:_MAX_NAMES],
        cves=_find_cves(fixes),
        assurance=f"the effective kernel is {effective[1]}" if updates and is_current else "",
    )


def _is_at_least(release: str, other: str) -> bool:
    """Return whether a kernel release is as new as another of the same build ("el9uek"); False if not comparable."""
    matches = _RELEASE_PATTERN.fullmatch(release), _RELEASE_PATTERN.fullmatch(other)
    if matches[0] is None or matches[1] is None or _strip_arch(matches[0][2]) != _strip_arch(matches[1][2]):
        return False
    return _split_numbers(matches[0][1]) >= _split_numbers(matches[1][1])


def _strip_arch(build: str | None) -> str:
    return re.sub(r"\.(x86_64|aarch64)$", "", build or "")


def _split_numbers(release: str) -> list[list[int]]:
    return [[int(number) for number in part.split(".")] for part in release.split("-")]


def _read_klp(section: ScriptSection, active: tuple[str, ...]) -> LivePatching:
    if section.exit_code != 0:
        return LivePatching("klp", "unknown", patches=active, problem=_describe_failure(section, "klp"))
    blocks = {block.split("\n", 1)[0].strip(): block for block in re.split(r"\n(?=\S)", section.text.strip())}
    blocks = {name: block for name, block in blocks.items() if _KLP_ACTIVE_PATTERN.search(block)}
    are_known = bool(active) and all(name in blocks for name in active)
    cves = _find_cves(blocks[name] for name in active) if are_known else None
    return LivePatching("klp", "active" if active else "no live patch", patches=active, cves=cves)


def _read_kpatch(packages: Sequence[ScriptRecord], active: tuple[str, ...], kernel: str) -> LivePatching:
    """Return the state of kpatch, or of live patches from an unknown source if kpatch has none."""
    packages_by_module = {_name_module(package): package for package in packages}
    stem = "kpatch-patch-" + kernel.partition(".el")[0].replace(".", "_")
    wanted_packages = [
        module
        for module, package in packages_by_module.items()
        if require_text(package, "name") == stem and require_text(package, "version") != "0"
    ]
    lacking = [module for module in wanted_packages if module not in active]
    is_known = bool(active) and all(name in packages_by_module for name in active)
    return LivePatching(
        "kpatch" if packages or any(name.startswith("kpatch") for name in active) else "livepatch",
        "enabled" if active else "not loaded" if lacking else "no live patch",
        patches=active,
        cves=_find_cves(require_text(packages_by_module[name], "cves") for name in active) if is_known else None,
        problem=f"{lacking[0]} is installed, but not loaded" if lacking else "",
    )


def _name_module(package: ScriptRecord) -> str:
    """Return the kernel's name of a package's live patch: kpatch_5_14_0_427_13_1_1_3 of kpatch-patch-…-1-3.el9_4."""
    kernel = require_text(package, "name").removeprefix("kpatch-patch-")
    release = require_text(package, "release").partition(".")[0]
    return f"kpatch-{kernel}-{require_text(package, 'version')}-{release}".replace("-", "_")


LIVE_PATCH_MASKS = ("kernel-livepatch*", "kernel[0-9]*-livepatch*", "kpatch-patch*", "uptrack-updates-*")


def is_live_patch_package(name: str) -> bool:
    """Return whether a package is a live patch of the running kernel, or a tool for it: it never needs a reboot."""
    return any(fnmatchcase(name, mask) for mask in LIVE_PATCH_MASKS)
