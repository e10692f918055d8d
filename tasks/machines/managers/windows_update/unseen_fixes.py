"""Why a Windows machine may lack security fixes that its agent does not offer. Pure.

The agent offers what its source has for this machine. A WSUS offers what somebody has approved, Windows Update what no
policy pauses or defers, a system without support gets nothing. So "nothing is offered" proves nothing by itself. Each
reason here hides fixes: while there is one, the machine is never Compliant. Sources, each of Microsoft's documents:

- "Configure Windows Update client policies": pauses (35 days at most), deferrals, and where their state is kept;
- "Update Policy CSP" for the same values from Intune or another MDM;
- "Manage additional Windows Update settings" for what forbids Windows Update;
- "Integrate Windows Update client policies with Configuration Manager" for what decides between it and WSUS.

Windows with support gets a cumulative update on each second Tuesday. So a machine that is not known to have one of the
newest month, and is offered none, is not known to have its fixes. That counts from the eighth day on: a list of
packages may be as old. After a deferral, it counts from the day after its end. A month is proven by the title of an
installed update. Where Windows Update is the source, the day on which the running one was installed serves as well. A
WSUS may have approved an old one on that day.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Final

from pydantic import Field

from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.compliance import MAX_ANSWER_AGE, UNASKED_AGENT, RepositoryProblem, find_ended_support
from tasks.machines.managers.windows_update.offered_updates import (
    OfferedUpdate,
    find_title_build,
    is_cumulative_title,
    is_hotpatch_title,
)
from tasks.machines.managers.windows_update.records import Epoch, Record, SystemRecord, Texts
from tasks.machines.managers.windows_update.update_history import HistoryEntry
from tasks.rules.hotpatch import find_second_tuesday
from tasks.rules.redaction import redact_url

APPROVE_MONTH: Final = "Look in WSUS whether that month's update of Windows is approved for this machine's group."
"""The remedy where a WSUS does not offer the newest month."""
WINDOWS_UPDATE: Final = "Windows Update"
"""The source of a machine without a WSUS."""

_ON: Final = "1"
_PAUSED, _RESUMED = "1", "2"  # PausedQualityStatus
_SETTERS: Final = {
    "": "a policy",
    "mdm:": "a policy of Intune or another MDM",
    "settings:": "Settings, Windows Update, on the machine",
}
"""Who sets a value: the prefix of its name -> in words."""
_LONGEST_PAUSE: Final = timedelta(days=35)
_FAR_AWAY: Final = datetime(9000, 1, 1, tzinfo=UTC)
LONGEST_DEFERRAL: Final = 7
"""Days of a deferral that hides nothing, as many as an answer counts (MAX_ANSWER_AGE). By "Autopatch group policies",
the first three rings of Windows Autopatch wait 0, 1 and 5 days, and the last two 9 and 10."""
_UPDATE_CLASSES: Final = ("Quality", "Feature", "Driver", "Other")
_SCAN_SOURCE_BUILD, _WINDOWS_11_BUILD = 19041, 22000
_MONTH_PATTERN: Final = re.compile(r"\s*(20[0-9]{2})-(0[1-9]|1[0-2])(?![0-9])")
"""The month of a title. In Chinese, a letter may follow at once."""
_ROLLUP_PATTERN: Final = re.compile(r"\bsecurity (?:monthly quality rollup|only quality update)\b", re.IGNORECASE)
"""The monthly updates of Windows Server 2012 R2 and older."""
_PAUSE_REMEDY: Final = "End that there, or judge the machine by another source: while it lasts, fixes are not offered."


class PolicyRecord(Record):
    """Keys of policies that could not be read: record "policy". Its values: see parse_values."""

    unread: Texts = Field(default=[])


class TimeRecord(Record):
    """When Automatic Updates last searched with success: record "searched". ``at``: seconds since the epoch.

    Record "running_update": when the cumulative update that runs was installed.
    """

    at: Epoch = None

    @property
    def day(self) -> date | None:
        """The day, from one publication by Microsoft (18 h UTC at the latest) to the next; None if it is none."""
        return (datetime.fromtimestamp(self.at, UTC) - timedelta(hours=18)).date() if self.at else None


class ProductsRecord(Record):
    """Products whose updates come from Microsoft Update or WSUS, not from Windows Update alone: record "products".

    Attributes:
        services: the names of their services.
        microsoft_update: whether Microsoft Update is switched on; None when unknown.
    """

    services: Texts = Field(default=[])
    microsoft_update: bool | None = None


@dataclass(frozen=True, slots=True)
class SourceSurvey:
    """What a machine says of its source of updates.

    Attributes:
        policy: values of the registry, by their names. The prefix says who sets a value: see _SETTERS.
        unread: keys of policies that could not be read; None: the machine says nothing of its policies.
        is_refreshed: whether this search asked the source.
        searched: when Automatic Updates last did; None: unknown.
        system: the system.
        running: the cumulative update that runs; None: unknown.
        products: None: there are none.
        offered: all that the agent offers, or has installed.
        history: the agent's history.
    """

    policy: Mapping[str, str]
    unread: Sequence[str] | None
    is_refreshed: bool
    searched: TimeRecord | None
    system: SystemRecord
    running: TimeRecord | None
    products: ProductsRecord | None
    offered: Sequence[OfferedUpdate]
    history: Sequence[HistoryEntry]

    @property
    def now(self) -> datetime:
        """The time that the machine's clock shows."""
        return datetime.fromtimestamp(self.system.at, UTC)

    def is_from_server(self, update_class: str = "Quality") -> bool:
        """Return whether a WSUS decides which updates of a class the machine gets."""
        return bool(_find_server(self.policy)) and not _prefers(self.policy, self.system, update_class, "0")


def describe_update_source(policy: Mapping[str, str], system: SystemRecord) -> str:
    """Return where quality updates come from: "Windows Update", or "WSUS" with the server's address, or both."""
    server = redact_url(_find_server(policy))
    if server and _prefers(policy, system, "Quality", "0"):
        return f"{WINDOWS_UPDATE} (a policy prefers it to WSUS {server})"
    return f"WSUS {server}" if server else WINDOWS_UPDATE


def _find_server(policy: Mapping[str, str]) -> str:
    """Return the WSUS of a policy, or of an MDM, whose value is "CorpWSUS" by default; "" for none."""
    server = policy.get("WUServer", "") if policy.get("UseWUServer") == _ON else ""
    return server or policy.get("mdm:UpdateServiceUrl", "").strip().removeprefix("CorpWSUS")


def _prefers(policy: Mapping[str, str], system: SystemRecord, update_class: str, source: str) -> bool:
    """Return whether scan source policies take a class of updates from a source: "0" Windows Update, "1" WSUS.

    They need a system that knows them, a source of every class and, if of a group, their switch. Before Windows 11,
    DisableDualScan wins. Where the policies of a group and of an MDM differ, the source is not known.
    """
    sources: set[str] = set()
    for prefix in ("", "mdm:"):
        values = {name: policy.get(f"{prefix}SetPolicyDrivenUpdateSourceFor{name}Updates") for name in _UPDATE_CLASSES}
        if all(values.values()) and (prefix or policy.get("UseUpdateClassPolicySource") == _ON):
            sources.add(values[update_class] or "")
    is_single = _ON in {policy.get("DisableDualScan"), policy.get("mdm:DisableDualScan")}
    oldest = _WINDOWS_11_BUILD if is_single and source == "0" else _SCAN_SOURCE_BUILD
    return sources == {source} and system.build_number >= oldest


def find_unseen_fixes(survey: SourceSurvey) -> tuple[RepositoryProblem, ...]:
    """Return each reason why fixes may be missing that the agent does not offer. See the module's docstring."""
    problems = [
        RepositoryProblem("", message, remedy, is_of_refresh=False)
        for message, remedy in (
            *_find_policy_problems(survey),
            *((message, _PAUSE_REMEDY) for message in _find_held_back(survey.policy, survey.now)),
            *_find_unserved_products(survey),
        )
    ]
    newest_title = max(_list_titled_months(survey), default=None)
    support = _judge_support(survey, newest_title)
    return (*problems, *_judge_search_age(survey), *(support or _judge_newest_month(survey, newest_title)))


def find_source_remarks(survey: SourceSurvey) -> tuple[str, ...]:
    """Return what limits the source on purpose, at each run, and makes no machine NotAssessed."""
    remarks = [message for message, days in _list_deferrals(survey.policy) if days]
    quality = {survey.policy.get(f"{prefix}SetPolicyDrivenUpdateSourceForQualityUpdates") for prefix in ("", "mdm:")}
    if "0" in quality and _find_server(survey.policy):
        source = describe_update_source(survey.policy, survey.system)
        remarks.append(f"a WSUS is set, and a policy takes quality updates from Windows Update: judged as {source}")
    if survey.products and survey.is_from_server("Other"):
        names = join_first_names(sorted(survey.products.services))
        remarks.append(f"updates of {names} come from WSUS: whether it approves all of them is not known here")
    return tuple(remarks)


def _find_policy_problems(survey: SourceSurvey) -> Iterator[tuple[str, str]]:
    if survey.unread is None or survey.unread:
        keys = ", ".join(survey.unread or ["its policies"])
        yield f"whether a policy holds updates back is not known: not read: {keys}", "Look at them on the machine."
    remedy, policy = "Remove that policy, or set a WSUS server.", survey.policy
    if policy.get("DisableWindowsUpdateAccess") == _ON:
        yield "the policy DisableWindowsUpdateAccess forbids Windows Update on this machine", remedy
    if policy.get("DoNotConnectToWindowsUpdateInternetLocations") == _ON and not survey.is_from_server():
        yield "a policy forbids Windows Update by internet, and no WSUS server is set for quality updates", remedy
    if _prefers(policy, survey.system, "Quality", "1") and not _find_server(policy):
        yield "a policy takes quality updates from WSUS, and no WSUS server is set", remedy
    if policy.get("mdm:AllowUpdateService") == "0":
        yield f"{_SETTERS['mdm:']} forbids all update services (AllowUpdateService)", remedy


def _find_held_back(policy: Mapping[str, str], now: datetime) -> Iterator[str]:
    """Yield who pauses or defers quality updates.

    PausedQualityStatus may be of an earlier pause: it counts only where no time tells the end.
    """
    pauses = {prefix: _find_end_of_pause(policy, prefix) for prefix in _SETTERS}
    for prefix, end in pauses.items():
        if end and end > now:
            start = policy.get(f"{prefix}PauseQualityUpdatesStartTime", "")
            yield f"{_SETTERS[prefix]} pauses quality updates{f' since {start}' if start else ''}"
    if policy.get("state:PausedQualityStatus") == _PAUSED and not any(pauses.values()):
        yield "quality updates are paused (PausedQualityStatus)"
    yield from (message for message, days in _list_deferrals(policy) if days is None)


def _list_deferrals(policy: Mapping[str, str]) -> Iterator[tuple[str, int | None]]:
    """Yield who defers quality updates, and the days; None if they are more than LONGEST_DEFERRAL, or no number."""
    for prefix, subject in _SETTERS.items():
        days = policy.get(f"{prefix}DeferQualityUpdatesPeriodInDays", "0")
        if days != "0" and (prefix or policy.get("DeferQualityUpdates") == _ON):
            message = f"{subject} defers quality updates by {days} days: newer fixes are not offered"
            yield message, int(days) if days in map(str, range(1, LONGEST_DEFERRAL + 1)) else None


def _find_end_of_pause(policy: Mapping[str, str], prefix: str) -> datetime | None:
    """Return when a pause ends: far away if that can't be told; None if none is set. Without its end, it is 35 days."""
    start = policy.get(f"{prefix}PauseQualityUpdatesStartTime", "")
    ends = [policy.get(f"{prefix}{name}", "") for name in ("PauseQualityUpdatesEndTime", "PauseUpdatesExpiryTime")]
    if not (start or any(ends) or policy.get(f"{prefix}PauseQualityUpdates") == _ON):
        return None
    began, known_ends = _parse_time(start), [end for end in map(_parse_time, ends) if end]
    if known_ends:
        return max(known_ends)
    if began and began < _FAR_AWAY:
        return began + _LONGEST_PAUSE
    is_over = prefix != "settings:" and policy.get("state:PausedQualityStatus") == _RESUMED
    return None if is_over else _FAR_AWAY


def _parse_time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _find_unserved_products(survey: SourceSurvey) -> Iterator[tuple[str, str]]:
    products = survey.products
    if products is None or products.microsoft_update or survey.is_from_server("Other"):
        return
    state = "which is off" if products.microsoft_update is False else "and whether that is on could not be read"
    yield (
        f"updates of {join_first_names(sorted(products.services))} come from Microsoft Update, {state} here: what "
        "Windows Update alone offers says nothing about them",
        "Switch it on there: Settings, Windows Update, Advanced options, Receive updates for other Microsoft products.",
    )


def _judge_search_age(survey: SourceSurvey) -> tuple[RepositoryProblem, ...]:
    """Return a problem if neither this search nor Automatic Updates has asked the source lately."""
    at = survey.searched.at if survey.searched else None
    age = None if at is None else timedelta(seconds=survey.system.at - at)
    is_recent = age is not None and -timedelta(days=1) < age <= MAX_ANSWER_AGE
    return () if survey.is_refreshed or is_recent else (UNASKED_AGENT,)


def _list_titled_months(survey: SourceSurvey) -> Iterator[date]:
    """Yield the days of publication of the monthly updates that are installed, by their titles.

    A failure after an installation is a boot that undid it. A preview that waits for its reboot proves nothing.
    """
    entries = sorted(survey.history, key=lambda entry: entry.seconds)
    last = {entry.id: entry for entry in entries if entry.operation == 1 or entry.is_removal}
    titles = [entry.title for entry in last.values() if entry.is_installation]
    for title in (*titles, *(update.title for update in survey.offered if update.installed)):
        release = _find_title_release(title, survey)
        if release and _can_run(title, release, survey):
            yield release
    for update in survey.offered:
        release = _find_title_release(update.title, survey)
        if release and update.reboot_required and update.classification.is_urgent:
            yield release


def _find_title_release(title: str, survey: SourceSurvey) -> date | None:
    """Return the day of publication of a title's month; None if it is no monthly update, or of a future month."""
    month = _MONTH_PATTERN.match(title)
    release = find_second_tuesday(int(month[1]), int(month[2])) if month and _is_monthly_title(title) else None
    return release if release and release <= survey.now.date() else None


def _can_run(title: str, release: date, survey: SourceSurvey) -> bool:
    """Return whether what the agent names can be what runs. It may be removed since, or of an earlier Windows.

    An older revision runs then, or one that was installed before that month. A hotpatch changes neither.
    """
    build, revision = find_title_build(title)
    day = survey.running.day if survey.running else None
    is_of_time = day is None or day >= release - timedelta(days=1) or is_hotpatch_title(title)
    return revision <= (survey.system.ubr or 0) and (is_of_time or build == survey.system.build_number)


def _is_monthly_title(title: str) -> bool:
    return is_cumulative_title(title) or is_hotpatch_title(title) or bool(_ROLLUP_PATTERN.search(title))


def _find_release(day: date) -> date:
    """Return the day of the newest monthly updates on a day."""
    release = find_second_tuesday(day.year, day.month)
    before = day.replace(day=1) - timedelta(days=1)
    return release if release <= day else find_second_tuesday(before.year, before.month)


def _judge_newest_month(survey: SourceSurvey, newest_title: date | None) -> tuple[RepositoryProblem, ...]:
    """Return a problem if the newest monthly update is neither known to be installed, nor any offered."""
    has_server, today = survey.is_from_server(), survey.now.date()
    deferral = timedelta(max((days or 0 for _, days in _list_deferrals(survey.policy)), default=0))
    day = survey.running.day if survey.running and not has_server else None
    days = [day - deferral] if day and day <= today else []  # a later one is of a clock that was wrong
    newest = max((known for known in (newest_title, *map(_find_release, days)) if known), default=None)
    release = _find_release(today - max(MAX_ANSWER_AGE, deferral + timedelta(days=1)))
    is_offered = any(
        _is_monthly_title(update.title)
        and update.classification.is_urgent
        and not (update.optional or update.hidden or update.reboot_required or update.installed)
        for update in survey.offered
    )
    if is_offered or (newest and newest >= release):
        return ()
    known = "no cumulative update of Windows is known to be installed here"
    if newest:
        known = f"the last cumulative update that is known here is of {newest:%Y-%m}"
    source, pin = describe_update_source(survey.policy, survey.system), _describe_pin(survey)
    message = f"{known}, and {source} offers none: there is a newer one since {release}{pin}"
    remedy = "Compare the build with Microsoft's release information, and look at Get-WindowsUpdateLog on the machine."
    if has_server:
        remedy = APPROVE_MONTH
    return (RepositoryProblem("", message, remedy, is_of_refresh=False),)


def _describe_pin(survey: SourceSurvey) -> str:
    """Return the release at which a policy keeps the machine: with another one than its own, little is offered."""
    pinned = survey.policy.get("TargetReleaseVersionInfo") or survey.policy.get("mdm:TargetReleaseVersion", "")
    return f"; the policy TargetReleaseVersion keeps it at {pinned}" if pinned else ""


@dataclass(frozen=True, slots=True)
class ProductSupport:
    """Until when a product gets updates: a row of support_ends.csv. ``last_day``: None when nothing tells it."""

    build: int
    is_client: bool
    edition: str
    product: str
    last_day: date | None


@cache
def load_support_ends() -> tuple[ProductSupport, ...]:
    """Return the table of products. The file has its source."""
    text = files(__package__).joinpath("support_ends.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        ProductSupport(
            int(row["build"]),
            row["kind"] == "client",
            row["edition"].lower(),
            row["product"],
            date.fromisoformat(row["last_day"]) if row["last_day"] else None,
        )
        for row in rows
    )


def find_product(system: SystemRecord) -> ProductSupport | None:
    """Return the product of a system: of the rows of its build, the one with the longest beginning of its edition."""
    rows = [
        row
        for row in load_support_ends()
        if (row.build, row.is_client) == (system.build_number, system.is_client)
        and system.installation_type
        and system.edition.lower().startswith(row.edition)
    ]
    return max(rows, key=lambda row: len(row.edition), default=None)


def _judge_support(survey: SourceSurvey, newest_title: date | None) -> tuple[RepositoryProblem, ...]:
    """Return a problem if the system gets no updates any more, or that is not known.

    A monthly update of a later month is installed: the machine gets extended security updates. A build that is newer
    than the table is no old one.
    """
    system, product = survey.system, find_product(survey.system)
    if product is None and system.build_number > max(row.build for row in load_support_ends()):
        return ()
    if product is None or product.last_day is None:
        name = product.product if product else f"build {system.build or '?'} ({system.edition or 'unknown edition'})"
        message = f"whether {name} still gets updates is not known here"
        return (RepositoryProblem("", message, "Look at Microsoft's lifecycle pages.", is_of_refresh=False),)
    if newest_title and newest_title > product.last_day:
        return ()
    end = (product.last_day + timedelta(days=1)).isoformat()
    today = survey.now.date()
    return find_ended_support(
        product.product, end, today, source="Microsoft's lifecycle pages", more=_describe_pin(survey)
    )
