"""The PackageManager of a machine with components: its own one, which is asked for the components, too."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from inventory.machine import OsFamily
from tasks.domain.components import (
    COMPONENT_PREFIX,
    Component,
    ComponentVersion,
    InstalledComponent,
    build_upgrade_command,
)
from tasks.domain.errors import (
    DeadlineExceeded,
    FleetpatchError,
    ProtocolViolation,
    RequestError,
    ScriptFailed,
)
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.package_manager import (
    JobKind,
    PackageManager,
    SimulationResult,
    Transaction,
)
from tasks.domain.protocols.transport import Script, ScriptParameter, Transport
from tasks.machines.managers.components.drivers import QUESTION_SECONDS, find_driver
from tasks.machines.managers.manager_base import build_job_parameters
from tasks.machines.managers.script_output import parse_sections
from tasks.rules.components.versions import find_listed_version

VERSIONS_SCRIPT = "component_versions"
JOB_SCRIPT = "component_job"
_MAX_PROBLEM_LENGTH = 200


class ComponentManager:
    """A package manager that knows components as well. All that is not about them, the machine's own one does.

    A transaction has packages or one component, never both.

    Args:
        base: the machine's own package manager.
        components: those that the machine may have.
        open_provider: opens who holds the machine's disks; it tells the versions of images.
    """

    def __init__(
        self,
        base: PackageManager,
        components: Sequence[Component],
        open_provider: Callable[[], MachineProvider | None] = lambda: None,
    ) -> None:
        self._base = base
        self.name, self.default_rates, self.script_package = base.name, base.default_rates, base.script_package
        self.updaters_script, self.health_script = base.updaters_script, base.health_script
        self.updater_means = base.updater_means
        self.lock_files, self.change_lock_files = base.lock_files, base.change_lock_files
        self.offers_more_later, self.longest_poll_seconds = base.offers_more_later, base.longest_poll_seconds
        self.way_back = base.way_back
        self.read_kernels, self.read_needs = base.read_kernels, base.read_needs
        self._components = {component.update_id: component for component in components if component.image is None}
        self._images = {component.update_id: component for component in components if component.image is not None}
        self._open_provider = open_provider

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Return the pending updates of packages, and the versions of the components."""
        packages = self._base.assess(transport, refresh=refresh, deadline=deadline)
        try:
            components = self.read_components(transport, deadline=deadline)
        except (ScriptFailed, ProtocolViolation, DeadlineExceeded) as error:
            # packages are patched all the same
            components = tuple(
                InstalledComponent(component.name, problem=error.message[:_MAX_PROBLEM_LENGTH])
                for component in self._components.values()
            )
        images = tuple(self._read_image(component, deadline) for component in self._images.values())
        return replace(packages, components=(*components, *images))

    def _read_image(self, component: Component, deadline: Deadline) -> InstalledComponent:
        """Return the version of the machine's OS disk. What the provider can't tell is a problem, and no error."""
        try:
            return InstalledComponent(component.name, self._read_image_version(deadline) or None)
        except FleetpatchError as error:
            return InstalledComponent(component.name, problem=error.message[:_MAX_PROBLEM_LENGTH])

    def _read_image_version(self, deadline: Deadline) -> str:
        provider = self._open_provider()
        if provider is None:
            raise RequestError("its inventory entry has no `provider`", hint="Give it one.")
        images = {disk.image for disk in provider.read_machine(deadline=deadline).os_disks}
        return images.pop() if len(images) == 1 else ""

    def read_components(self, transport: Transport, *, deadline: Deadline) -> tuple[InstalledComponent, ...]:
        """Ask a machine for the versions of its components, in one call. Change nothing.

        Raises:
            TransportError: no answer.
            ScriptFailed, ProtocolViolation, ReportTooLarge: the answer is not valid.
        """
        asked = tuple(self._components.values())
        if not asked:
            return ()
        params: dict[str, ScriptParameter] = {
            "count": str(len(asked)),
            "timeout": str(QUESTION_SECONDS),
        }
        for number, component in enumerate(asked):
            question = find_driver(component).build_question(component)
            params.update({f"c_{number}_{key}": value for key, value in question.items()})
        script = Script(VERSIONS_SCRIPT, params, package=self._base.script_package)
        sections = parse_sections(transport.run_script(script, deadline=deadline), VERSIONS_SCRIPT)
        return tuple(
            find_driver(component).parse_answer(component, sections[str(number)])
            if str(number) in sections
            else InstalledComponent(component.name, problem="the machine did not answer for it")
            for number, component in enumerate(asked)
        )

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, keep: Collection[str] = (), deadline: Deadline
    ) -> SimulationResult:
        """Return what an installation would do. Of components nothing more can be said than their versions."""
        if not any(_is_component(update) for update in updates):
            return self._base.simulate(transport, updates, keep=keep, deadline=deadline)
        return SimulationResult({update.id: update.available for update in updates})

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Return the installed versions: update id -> version. Those of components have the words of their file."""
        packages = [update for update in updates if not _is_component(update)]
        versions = dict(self._base.read_installed_versions(transport, packages, deadline=deadline)) if packages else {}
        for update in updates:
            if update.id in self._images and (image := self._read_image_version(deadline)):
                versions[update.id] = image
        if not any(update.id in self._components for update in updates):
            return versions
        by_name = {
            installed.name: installed.version for installed in self.read_components(transport, deadline=deadline)
        }
        for update in updates:
            component, version = self._components.get(update.id), by_name.get(update.name)
            if component is not None and version is not None:
                listed = find_listed_version(component.versions, version)
                versions[update.id] = listed.version if listed is not None else version
        return versions

    def build_job_script(
        self,
        kind: JobKind,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """Return the script of a job that downloads, installs or puts back a version of a component, or packages.

        Raises:
            RequestError: packages and components stand in one job, or the file of components does not have a version.
        """
        updates = [update for transaction in transactions for update in transaction.updates]
        if not any(map(_is_component, updates)):
            return self._base.build_job_script(
                kind, transactions, allowed=allowed, allow_removals=allow_removals, excluded=excluded
            )
        params = build_job_parameters(kind, transactions)
        for transaction in transactions:
            if len(transaction.updates) != 1:
                raise RequestError("a transaction with a component has nothing else in it")
            update = transaction.updates[0]
            component, version = self._find(update)
            goes_back = kind is JobKind.ROLL_BACK
            before = None if goes_back else component.find_version(update.installed or "")
            work = find_driver(component).build_installation(component, version, before, goes_back=goes_back)
            params.update({f"tx_{transaction.number}_{key}": value for key, value in work.items()})
            if component.family is OsFamily.WINDOWS:
                params["policy"] = "Bypass"  # for the owner's command: see commands.ps1
        return Script(JOB_SCRIPT, params, read_only=False, package=self._base.script_package)

    def _find(self, update: Update) -> tuple[Component, ComponentVersion]:
        component = self._components.get(update.id)
        version = component.find_version(update.available) if component is not None else None
        if component is None or version is None:
            raise RequestError(
                f"the file of components does not have {update.name} {update.available} (any more)",
                hint=f"Put that version back into the file. Then order it: {build_upgrade_command(update.name)}",
            )
        return component, version


def _is_component(update: Update) -> bool:
    return update.id.startswith(COMPONENT_PREFIX)
