"""What a job of the made-up package manager does: one transaction after the other, with downloads that take time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from math import inf
from typing import Any

from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.support.fake_packages import Shelf
from tests.support.fake_transport import SimulatedJob

REPAIR_WAIT_SECONDS = 120.0  # how long a repair waits for somebody else's lock


@dataclass(frozen=True, slots=True)
class Coming:
    """A transaction on its way: what it will have done, and what a power cut would make of it."""

    begins: datetime
    ends: datetime
    done: Callable[[Shelf], None]
    undone: Callable[[Shelf], None]


@dataclass(slots=True)
class JobRun:
    """Works out what a job will do, on a copy of the packages.

    Attributes:
        stop_at: when it was asked to stop.
        bytes_per_second: of its repositories; 0: nothing ever comes.
        preempted_by: the other run for which it was asked to stop, or "".
    """

    script: Script
    began: datetime
    shelf: Shelf
    start_seconds: float
    skew_seconds: float
    stop_at: datetime | None = None
    locks: tuple[tuple[datetime, datetime], ...] = ()
    bytes_per_second: float = inf
    past: float = 0.0
    preempted_by: str = ""
    log: str = ""
    steps: list[tuple[float, ScriptRecord]] = field(default_factory=list)
    coming: list[Coming] = field(default_factory=list)

    def plan(self) -> SimulatedJob:
        for number in names_in(self.script, "numbers"):
            why = self._obstacle(number)
            if why:
                self._not_attempted(number, why)
            else:
                do = {JobKind.STAGE: self._stage, JobKind.INSTALL: self._install}
                do.get(self.work, self._transaction)(number)
        self.steps.append((self.past, {"kind": "finished", "at": self._at()}))
        return SimulatedJob(steps=tuple(self.steps), seconds=self.past, log=self.log)

    @property
    def work(self) -> JobKind:
        return JobKind(str(self.script.params["work"]))

    def _at(self) -> float:
        return self.began.timestamp() + self.past + self.skew_seconds

    def _latest(self, number: str) -> float:
        return float(str(self.script.params[f"tx_{number}_latest_start"]))

    def _tell(self, kind: str, number: str, **more: Any) -> None:
        self.steps.append((self.past, {"kind": kind, "number": int(number), "at": self._at(), **more}))

    def _obstacle(self, number: str) -> str:
        """Return why a transaction may not begin: the same questions, in the same order, as on a real machine."""
        if self.stop_at is not None and self.stop_at < self._now():  # what began at that very moment was seen to begin
            return "stop"
        return "" if self.in_time(number) else "window"

    def in_time(self, number: str) -> bool:
        """Whether a transaction may begin now, as far as time goes."""
        return self._at() <= self._latest(number)

    def downloaded_in_time(self, number: str) -> bool:
        """Whether it may still begin now that its download is over."""
        return self.in_time(number)

    def _unwanted(self, number: str) -> tuple[str, str]:
        """Return what installing would also do, and must not, as (why, detail)."""
        own = names_in(self.script, f"tx_{number}_updates")
        removals = self.shelf.removals(own)
        if removals and self.script.params["allow_removals"] != "yes":
            return "removals", ", ".join(removals)
        gone = [name for name in names_in(self.script, f"tx_{number}_present") if self.shelf[name].installed is None]
        if gone:
            return "anew", ", ".join(gone)
        may = {*own, *names_in(self.script, "allowed")}
        others = [self.shelf[update_id] for update_id in self.shelf.closure(own) if update_id not in may]
        unexpected = [f"{other.id} {other.installed} -> {other.available}" for other in others if other.installed]
        if unexpected:
            return "unexpected", ", ".join(unexpected)
        new = [update_id for update_id in self.shelf.closure(own) if self.shelf[update_id].installed is None]
        masks = names_in(self.script, "excluded")
        found = [(name, mask) for name in [*new, *removals] if name not in own for mask in masks]
        barred = [f"{name} (mask {mask})" for name, mask in found if fnmatchcase(name, mask)]
        return ("excluded", ", ".join(barred)) if barred else ("", "")

    def _not_attempted(self, number: str, why: str, detail: str = "") -> None:
        if why == "stop" and self.preempted_by:
            why, detail = "preempted", self.preempted_by
        self._tell("not_attempted", number, latest_start=self._latest(number), why=why, detail=detail)

    def _stage(self, number: str) -> None:
        self._tell("transaction_started", number)
        if not self._got_the_lock(number):
            return
        self.past += self.start_seconds
        why = self._download(number)
        if why:
            self._not_attempted(number, why)
            return
        self._tell("progress", number, percent=100.0, update="", action="Retrieving files")
        self._tell("transaction_ended", number, exit_code=0, error="")

    def _install(self, number: str) -> None:
        self._tell("download_started", number)
        if not self._got_the_lock(number):
            return
        why, detail = self._download(number), ""
        if not why:
            why = "" if self.downloaded_in_time(number) else "download"
        if not why:
            why, detail = self._unwanted(number)
        if why:
            self._not_attempted(number, why, detail)
        else:
            self._transaction(number)

    def download_end(self, number: str) -> float:
        """Return the last moment of a download, by the machine's clock."""
        return float(str(self.script.params.get(f"tx_{number}_stop_at", self._latest(number))))

    def _download(self, number: str) -> str:
        """Fetch what is missing; return why it was ended, or "" when it is all there."""
        own = names_in(self.script, f"tx_{number}_updates")
        size = sum(package.size_bytes for package in self.shelf.missing(own))
        seconds = 0.0 if not size else size / self.bytes_per_second if self.bytes_per_second else inf
        ends = {"": seconds, "download": max(0.0, self.download_end(number) - self._at())}
        if self.stop_at is not None:
            ends["stop"] = max(0.0, (self.stop_at - self._now()).total_seconds())
        why = min(ends, key=lambda each: ends[each])
        begins = self._now()
        self.past += ends[why]
        if not why:
            self.shelf.carry_out(JobKind.STAGE, own)
            stage = partial(Shelf.carry_out, work=JobKind.STAGE, wanted=own)
            self.coming.append(Coming(begins, self._now(), stage, lambda shelf: None))
        return why

    def _got_the_lock(self, number: str) -> bool:
        """Wait for somebody else's lock, as long as the transaction's latest start allows and patience lasts."""
        patience = max(0.0, self._latest(number) - self._at())
        patience = min(patience, REPAIR_WAIT_SECONDS) if self.work is JobKind.REPAIR else patience
        free_at = max([until for since, until in self.locks if since <= self._now() < until], default=None)
        if free_at is None:
            return True
        left = min(patience, (free_at - self._now()).total_seconds())
        if self.stop_at is not None:
            heard = max(0.0, (self.stop_at - self._now()).total_seconds())
            if heard < left:
                self.past += heard
                self._not_attempted(number, "stop", "asked to stop")
                return False
        self.past += left
        if self._now() < free_at:
            self._tell("transaction_ended", number, exit_code=100, cause="lock", error="lock: Could not get lock")
            return False
        return True

    def _now(self) -> datetime:
        return self.began + timedelta(seconds=self.past)

    def _transaction(self, number: str) -> None:
        own, work = names_in(self.script, f"tx_{number}_updates"), self.work
        if work is JobKind.REMOVE and not own:  # it was done before the run was resumed
            return
        packages = [] if work is JobKind.REMOVE else [self.shelf[update_id] for update_id in self.shelf.closure(own)]
        begins = self.began + timedelta(seconds=self.past)
        self._tell("transaction_started", number)
        if not self._got_the_lock(number):
            return
        refused = [self.shelf.needed_kernels[name] for name in own if name in self.shelf.needed_kernels]
        if work is JobKind.REMOVE and refused:
            self._not_attempted(number, "rpm refuses it", "; ".join(refused))
            return
        waited = self.past - (begins - self.began).total_seconds()
        seconds = self.start_seconds + (sum(package.seconds for package in packages) if work is JobKind.INSTALL else 0)
        for place, package in enumerate(packages, 1):
            self.past += seconds / len(packages)
            percent = 100.0 * place / len(packages)
            self._tell("progress", number, percent=percent, update=package.id, action=f"Setting up {package.id}")
        self.past = (begins - self.began).total_seconds() + waited + seconds
        errors: list[str] = []
        if work is JobKind.INSTALL:
            errors = [package.fails for package in packages if package.fails]
            for package in packages:
                if package.conffile:
                    new_file = f"{package.conffile}.dpkg-dist"
                    self._tell("configuration_kept", number, path=package.conffile, kept_as=new_file)
        self.shelf.carry_out(work, own)
        if work is JobKind.REPAIR:
            errors = self.shelf.broken()
        if work is JobKind.REMOVE and self.shelf.stuck_kernels:
            errors = [self.shelf.stuck_kernels]
        cause = "failed" if errors else ""
        self._tell("transaction_ended", number, exit_code=100 if errors else 0, cause=cause, error="; ".join(errors))
        self.log += "".join(
            f"Setting up {package.id} ({package.available}) ...\n{package.fails}" for package in packages
        )
        self.coming.append(
            Coming(
                begins + timedelta(seconds=waited),
                self._now(),
                lambda shelf: shelf.carry_out(work, own),
                lambda shelf: shelf.interrupt(work, own),
            )
        )


def names_in(script: Script, name: str) -> tuple[str, ...]:
    """Return a parameter that is a list."""
    value = script.params.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)
