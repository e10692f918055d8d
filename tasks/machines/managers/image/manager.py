"""The PackageManager of image-based systems. What differs between their tools is an ImageTool. Scripts: scripts/.

The root of such a system is an image. An update stages the next image beside the running one, and a reboot starts it.
No package is changed on the running system, and the image before stays for a rollback.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.compliance import UNASKED_SOURCE
from tasks.domain.errors import ManagerBusy, ManagerError, RequestError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import (
    JobKind,
    Rates,
    SimulationResult,
    Transaction,
    UpdaterMeans,
    WayBack,
)
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptResult, Transport
from tasks.machines.managers.image.state import (
    UPDATE_ID,
    ImageState,
    build_image_package_state,
    clean_image_text,
    find_image_digest,
)
from tasks.machines.managers.manager_base import ManagerDefaults, build_job_parameters
from tasks.machines.managers.repository_problems import build_repository_error
from tasks.machines.managers.rpm.repositories import find_rpm_repository_problems
from tasks.machines.managers.running_programs import build_updaters_script, find_scheduled_updaters, is_unit_active
from tasks.machines.managers.script_output import (
    ScriptSection,
    describe_unread,
    get_text,
    parse_sections,
    require_integer,
    require_text,
)
from tasks.machines.managers.tool_errors import find_tool_error

ASSESS_SCRIPT: Final = "image_assess"
JOB_SCRIPT: Final = "image_job"

DEFAULT_RATES: Final = Rates(
    transaction_seconds=300.0,
    install_seconds_per_update=300.0,
    download_bytes_per_second=1e6,
    reboot_seconds=300.0,
    validate_seconds=60.0,
)
"""An image is written as a whole, and usually downloaded in the same step: minutes."""

CHECK_LOCK_TIMEOUT_SECONDS: Final = "60"
"""How long an assessment waits for another process that changes deployments."""

_IMAGE_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\-]{0,511}")
"""An OSTree reference, a container image or a product: what may be part of a command line."""
_BUSY_PATTERN: Final = re.compile(r"(?i)transaction in progress|another instance|System management is locked")


@dataclass(frozen=True, slots=True)
class ImageTool:
    """What distinguishes one tool for image-based systems from the others.

    Its package has the script ``image_tool``: how to check, download and stage with it.

    Attributes:
        name: of the package manager: "bootc", "rpm-ostree".
        package: the Python package with its scripts.
        parse_state: turns the sections and records of image_assess.sh into what the tool reports.
        no_update_codes: exit codes of its check, other than 0, that are no failure.
        partial_failure: words of a check that could not read some of its repositories; "" if it has one source.
        timers: timers that update the system.
        agents: services that update the system whenever they want.
        lock_files: files that it locks (fcntl) while it changes deployments. OSTree's own lock is not among them: its
            shutdown service needs that lock, so no reboot may hold it. unfinished_packages.sh looks for it.
        is_installed: whether the next boot starts what an update was to install.
    """

    name: str
    package: str
    parse_state: Callable[[Mapping[str, ScriptSection]], ImageState]
    no_update_codes: tuple[int, ...] = ()
    partial_failure: str = ""
    timers: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    lock_files: tuple[str, ...] = ()
    is_installed: Callable[[ImageState, Update], bool] = ImageState.fulfils

    @property
    def updater_services(self) -> tuple[str, ...]:
        """The services that update the system by themselves."""
        return (*(f"{timer.removesuffix('.timer')}.service" for timer in self.timers), *self.agents)

    def find_auto_updaters(self, shown: str, now: int) -> tuple[tuple[str, float | None], ...]:
        """Return the updaters that may act, with the seconds until then (see find_scheduled_updaters)."""
        agents = tuple((agent, None) for agent in self.agents if is_unit_active(shown, agent))
        return (*find_scheduled_updaters(shown, self.timers, now), *agents)


_WITH_SETTINGS = ("rpm-ostreed-automatic.timer",)
"""Timers that do what a file of the machine says."""


class ImageManager(ManagerDefaults):
    """The PackageManager for a system that is updated as a whole."""

    no_kernels = "its kernels belong to its images"

    def __init__(self, tool: ImageTool) -> None:
        self._tool = tool
        self.name = tool.name
        self.default_rates = DEFAULT_RATES
        self.script_package = tool.package
        self.lock_files: tuple[str, ...] = tool.lock_files
        self.way_back = WayBack(
            f"this system goes back as a whole: `{tool.name} rollback` on the machine, and a reboot"
        )
        self.updater_means: UpdaterMeans | None = UpdaterMeans(
            units=tool.timers, with_settings=frozenset(_WITH_SETTINGS), stoppable=frozenset(tool.agents)
        )
        # an agent is only a client of the tool: when it is stopped, what it ordered goes on
        self.updaters_script: Script | None = build_updaters_script(tool.package, (*tool.timers, *tool.agents))

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Read what runs, what the next boot starts, and what is newer, in one call.

        Raises:
            ManagerBusy: another process changes deployments all the time.
            RepositoryError: the source of the image, or all repositories, do not answer.
            ManagerError: the tool can't work at all.
        """
        params = {"refresh": "yes", "lock_wait_seconds": CHECK_LOCK_TIMEOUT_SECONDS} if refresh else {}
        result = self._run_assess_script(transport, params, deadline)
        sections = parse_sections(result, ASSESS_SCRIPT)
        if "check" in sections:
            self._require_success(sections["check"])
        state = self._parse_state(sections)
        facts = result.find_records("state")
        at_work = clean_image_text(require_text(facts[0], "at_work")) if facts else ""
        now = require_integer(facts[0], "at") if facts else 0
        timers = get_text(sections, "timers")
        packages = build_image_package_state(
            self.name,
            state,
            at_work=at_work,
            auto_updaters=self._tool.find_auto_updaters(timers, now),
            updater_units=self._tool.updater_services,
        )
        if "check" not in sections:
            unasked = () if state.was_asked else (UNASKED_SOURCE,)
            return replace(packages, repository_problems=(*packages.repository_problems, *unasked))
        if not self._tool.partial_failure:
            return packages
        problems = find_rpm_repository_problems(f"{sections['check'].text}\n{sections['check'].stderr}")
        repositories = {problem.repository for problem in problems}
        more = (
            repository_problem
            for repository_problem in packages.repository_problems
            if repository_problem.repository not in repositories
        )
        return replace(packages, repository_problems=(*problems, *more))

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline, **_no_effect: object
    ) -> SimulationResult:
        """Compare with what the tool knows now. No tool can say more without downloading the image."""
        state = self._read_state(transport, deadline)
        offered = state.update.version if state.update else state.next
        refused = {
            update.id: f"the system would get {offered} now: that changed since the assessment"
            for update in updates
            if update.available != offered
        }
        changes = {update.id: update.available for update in updates if update.id not in refused}
        return SimulationResult(changes, refused=refused)

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Return the version that the next boot starts. After a boot that fell back, it is the version of before."""
        known_updates = [update for update in updates if update.id == UPDATE_ID]
        if not known_updates:
            return {}
        state = self._read_state(transport, deadline)
        return {
            update.id: update.available if self._tool.is_installed(state, update) else state.next
            for update in known_updates
        }

    def build_job_script(self, kind: JobKind, transactions: Sequence[Transaction], **_no_effect: object) -> Script:
        """Return the script of a job that downloads or stages the image.

        An image changes packages as its publisher decided: ``allowed``, ``allow_removals`` and ``excluded`` have no
        effect on its content.

        Raises:
            RequestError: there is nothing to do, or the name of the image is not valid.
        """
        params = build_job_parameters(kind, transactions)
        for transaction in transactions:
            for update in transaction.updates:
                if update.id != UPDATE_ID or not _IMAGE_PATTERN.fullmatch(update.name):
                    raise RequestError(f"not an image: {update.id!r} {update.name!r}")
                params[f"tx_{transaction.number}_image"] = update.name
                params[f"tx_{transaction.number}_digest"] = find_image_digest(update.available)
        return Script(JOB_SCRIPT, params, read_only=False, package=self._tool.package)

    def _read_state(self, transport: Transport, deadline: Deadline) -> ImageState:
        return self._parse_state(parse_sections(self._run_assess_script(transport, {}, deadline), ASSESS_SCRIPT))

    def _parse_state(self, sections: Mapping[str, ScriptSection]) -> ImageState:
        if failures := describe_unread(sections, {"status": f"the status of {self.name}"}):
            raise ManagerError(failures[0])
        return self._tool.parse_state(sections)

    def _run_assess_script(
        self, transport: Transport, params: Mapping[str, ScriptParameter], deadline: Deadline
    ) -> ScriptResult:
        units = (*self._tool.timers, *self._tool.updater_services)
        script = Script(ASSESS_SCRIPT, {**params, "updaters": units}, package=self._tool.package)
        return transport.run_script(script, deadline=deadline)

    def _require_success(self, check: ScriptSection) -> None:
        if check.exit_code in (0, *self._tool.no_update_codes):
            return
        output = f"{check.text[-2000:]}\n{check.stderr}"
        if self._tool.partial_failure and self._tool.partial_failure in output:
            return
        if check.exit_code == 127:
            raise ManagerError(f"{self.name} can't be run: {find_tool_error(check.stderr)}")
        if _BUSY_PATTERN.search(output):
            raise ManagerBusy(f"another process changes the system's images: {find_tool_error(check.stderr)}")
        problems = find_rpm_repository_problems(output) if self._tool.partial_failure else ()
        raise build_repository_error(problems, check.stderr if check.stderr.strip() else output)
