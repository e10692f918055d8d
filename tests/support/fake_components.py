"""The components of a simulated machine: it tells their versions, and its jobs change them.

components = FakeComponents(fleet.add("web", []), exporter="1.0.0")
components.unhealthy.add(("exporter", "1.1.0"))            # its probe fails with this version
components.fails["1.2.0"] = "no such library"              # its installation fails, and leaves the version of before
components.unanswered                                      # the probe gives no answer
"""

from dataclasses import dataclass, field

from inventory.machine import Check, CheckKind
from tasks.domain.errors import Unreachable
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.transport import Job, Script, ScriptRecord
from tests.support.fake_transport import SimulatedJob
from tests.support.sim_machine import SimMachine

PROBE = Check("app", CheckKind.COMMAND, "ask the application")
"""The probe that a machine needs in the inventory, for its health to be asked."""


@dataclass
class FakeComponents:
    """What is installed of components on one machine.

    Attributes:
        versions: by component; None: not installed.
        unhealthy: component and version with which the probe fails.
        fails: by version, why its installation fails.
        breaks: versions whose installation leaves nothing behind.
        stuck: versions that can't be put back.
        is_sick: whether the probe fails whatever is installed.
        is_silent: whether the probe gets no answer.
        heals_after: seconds after the last change from which on the probe is good whatever is installed.
        dies_after: seconds after the last change until an unhealthy version is bad. Before, its probe is good.
        loops: whether the service of an unhealthy version ends each 20 s and is started again. Its probe is good then.
        deaf: versions with which nothing listens on tcp/443 any more.
        seconds: how long an installation takes.
        jobs: (work, component, version) of each job that was started.
    """

    machine: SimMachine
    versions: dict[str, str | None]
    unhealthy: set[tuple[str, str]] = field(default_factory=set)
    fails: dict[str, str] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    problem: str = ""
    is_sick: bool = False
    is_silent: bool = False
    heals_after: float | None = None
    dies_after: float = 0
    loops: bool = False
    deaf: set[str] = field(default_factory=set)
    seconds: float = 20.0
    jobs: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed_at = self.machine.fake_clock.now()
        self.machine.answer("component_versions", self._tell_versions)
        self.machine.answer("probe", self._probe)
        self.machine.list_runs = self._list_runs
        self.machine.job("component_job", self._start)

    def _tell_versions(self, script: Script) -> list[ScriptRecord]:
        records: list[ScriptRecord] = []
        for number in range(int(str(script.params["count"]))):
            version = self.versions.get(str(script.params[f"c_{number}_package"]))
            code, text = (1, self.problem) if self.problem else (0, f"version {version}\n" if version else "")
            records.append({"kind": "section", "name": str(number), "exit_code": code, "text": text, "stderr": ""})
        return records

    def _probe(self, _script: Script) -> ScriptRecord:
        if self.is_silent:
            raise Unreachable("no answer", machine=self.machine.name)
        since = (self.machine.fake_clock.now() - self._changed_at).total_seconds()
        is_healed = self.heals_after is not None and since >= self.heals_after
        is_up = self.loops or since < self.dies_after
        is_bad = not is_up and any((name, version) in self.unhealthy for name, version in self.versions.items())
        bad = self.is_sick or (is_bad and not is_healed)
        return {"kind": "probe", "exit_code": 1 if bad else 0, "text": "the application is down" if bad else ""}

    def _list_runs(self) -> list[ScriptRecord]:
        since = (self.machine.fake_clock.now() - self._changed_at).total_seconds()
        is_bad = any((name, version) in self.unhealthy for name, version in self.versions.items())
        restarts = int(since // 20) if self.loops and is_bad else 0
        run = {"kind": "run", "name": "app.service", "run": f"{self._changed_at:%s}-{restarts}", "restarts": restarts}
        return [{**run, "age": 9.0, "again": True, "between": False}]

    def _start(self, job: Job) -> SimulatedJob:
        params = job.script.params
        work, number = JobKind(str(params["work"])), str(params["numbers"][0])
        component, version = str(params[f"tx_{number}_component"]), str(params[f"tx_{number}_version"])
        now = self.machine.fake_clock.now().timestamp()
        mark: ScriptRecord = {"number": int(number)}
        latest = float(str(params[f"tx_{number}_latest_start"]))
        if now + self.machine.world.skew_seconds > latest:
            late = {**mark, "kind": "not_attempted", "at": now, "latest_start": latest, "why": "window", "detail": ""}
            return SimulatedJob(((0.0, late),))
        self.jobs.append((work.value, component, version))
        if work is JobKind.STAGE:
            ended = {**mark, "kind": "transaction_ended", "at": now + 1, "exit_code": 0, "cause": "", "error": ""}
            return SimulatedJob(((0, {**mark, "kind": "transaction_started", "at": now}), (1, ended)), seconds=1)
        error = self.fails.get(version, "") or ("it can't be put back" if version in self.stuck else "")
        ended = {
            **mark,
            "kind": "transaction_ended",
            "at": now + self.seconds,
            "exit_code": 1 if error else 0,
            "cause": "failed" if error else "",
            "error": error,
        }
        steps = ((0.0, {**mark, "kind": "transaction_started", "at": now}), (self.seconds, ended))
        return SimulatedJob(steps, seconds=self.seconds, effect=lambda: self._change(component, version, error))

    def _change(self, component: str, version: str, error: str) -> None:
        self._changed_at = self.machine.fake_clock.now()
        if version in self.breaks:
            self.versions[component] = None
        elif not error:
            self.versions[component] = version
            ports = set(self.machine.listening) | {"tcp/443"}
            self.machine.listening = tuple(sorted(ports - {"tcp/443"} if version in self.deaf else ports))
