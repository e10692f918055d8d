"""What keeps a machine from being rebooted although that was decided: somebody else changes its packages.

The machine itself refuses then. It is asked again, which changes nothing, as long as the window still holds the reboot.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasks.errors import ProtocolViolation
from tasks.rules.window import fit, say_duration, say_time
from tasks.seams.clock import Deadline
from tasks.seams.transport import Script, ScriptRecord
from tasks.states import Step
from tasks.steps.claim import SOON, hold
from tasks.steps.context import Work
from tasks.steps.follow import patiently

BUSY: Final = frozenset({"lock", "inhibitor", "packages"})
"""What a refused reboot may be about when others are the reason, so that it is waited for."""
ASK_SECONDS = 60.0  # one answer, reconnecting included
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
SLICE_SECONDS = 1.0  # how often a pause looks whether the run was asked to stop
HOLD_AGAIN = SOON / 3
LEFT_SECONDS = 120.0
"""How long packages may be half done and no process changes them: "apt-get -f install" often follows "dpkg -i"."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a machine says: its boot, what keeps it from being rebooted, and whether its last order was given up.

    Attributes:
        boot_id: of the boot that it runs.
        about: lock, inhibitor, packages, or "" when nothing keeps it.
        why: who or what keeps it, in words; "" when nothing does.
        given_up: why the machine gave up an order of a reboot that it had taken on, or "".
        given_up_about: as ``about``.
    """

    boot_id: str
    about: str = ""
    why: str = ""
    given_up: str = ""
    given_up_about: str = ""


def ask(work: Work) -> Standing:
    """Ask a machine what keeps it from being rebooted now. Changes nothing.

    Raises:
        TransportError: no answer.
        ProtocolViolation: the answer makes no sense.
    """
    script = Script("reboot_obstacles", {"locks": work.manager.locks})
    answer = work.transport.run(script, deadline=Deadline.after(work.context.clock, ASK_SECONDS))
    boots = answer.of_kind("boot")
    if answer.exit_code or len(boots) != 1:
        raise ProtocolViolation(
            f"reboot_obstacles gave no answer (exit code {answer.exit_code}): {answer.noise[-300:]}"
        )
    obstacle, given_up = (next(iter(answer.of_kind(kind)), {}) for kind in ("obstacle", "given_up"))
    return Standing(
        str(boots[0].get("boot_id")),
        str(obstacle.get("about", "")),
        str(obstacle.get("why", "")),
        str(given_up.get("why", "")),
        str(given_up.get("about", "")),
    )


@dataclass(slots=True)
class Waiting:
    """The wait of one machine for others who change its packages.

    Attributes:
        until: until when it may wait.
        why_until: why not longer; "" for the end of the window.
        seconds: how long it has waited so far.
        who: what kept it the last time, in words.
        boot_id: of the boot in which the wait began.
    """

    work: Work
    until: datetime
    why_until: str = ""
    seconds: float = 0.0
    who: str = ""
    boot_id: str = ""
    _left_since: datetime | None = None
    _told: bool = False
    _held_at: datetime | None = None

    def for_others(self) -> tuple[Standing, str]:
        """Wait until nothing keeps the machine from being rebooted.

        Returns:
            What the machine said last, and why the wait ended in vain, or "".

        Raises:
            FleetpatchError: the machine could not be asked.
        """
        clock, control = self.work.context.clock, self.work.context.control
        began, pause, before = clock.now(), FIRST_PAUSE, self.seconds
        while True:
            standing = patiently(self.work, lambda: ask(self.work), self._patience())
            self.boot_id = self.boot_id or standing.boot_id
            self.seconds = before + (clock.now() - began).total_seconds()
            if not standing.about or standing.boot_id != self.boot_id:
                return standing, ""
            self.who = standing.why
            if control.stopping:
                return standing, f"the run was asked to stop: {control.reason}; {self.told}"
            if why := self._over(standing) or self._lost():
                return standing, why
            self._say()
            self._pause(min(pause, max(0.0, (self.until - clock.now()).total_seconds())))
            pause = min(LONGEST_PAUSE, pause * 1.3)

    def refused(self, answer: ScriptRecord) -> None:
        """Take in that somebody began between the question and the order."""
        self.who = str(answer.get("why", "")) or self.who

    @property
    def told(self) -> str:
        """Who kept the machine, and how long that was waited for; "" when nobody did."""
        if not self.who:
            return ""
        waited = f" (waited {say_duration(self.seconds)})" if self.seconds >= 1 else ""
        return f"{self.who}{waited}"

    def _over(self, standing: Standing) -> str:
        """Return why it is waited for no longer, or ""."""
        now = self.work.context.clock.now()
        if standing.about != "packages":
            self._left_since = None
        elif self._left_since is None:
            self._left_since = now
        elif (now - self._left_since).total_seconds() >= LEFT_SECONDS:
            return f"its packages are in a broken state, and no process changes them: {self.told}"
        if now < self.until:
            return ""
        if self.why_until:
            return f"{self.told}; {self.why_until}"
        window = self.work.context.window
        left = fit(now, self.work.reboot_seconds, window.end, "the reboot", "the end of the window", zone=window.zone)
        return f"{self.told}; {left.arithmetic}"

    def _lost(self) -> str:
        """Let the machine stay this run's however long the wait is; return whose it is instead, or ""."""
        now = self.work.context.clock.now()
        if self._held_at is not None and now - self._held_at < HOLD_AGAIN:
            return ""
        taken = patiently(self.work, lambda: hold(self.work), self._patience())
        self._held_at = now
        return f"{self.told}; {taken}" if taken else ""

    def _patience(self) -> Deadline:
        clock = self.work.context.clock
        return Deadline(self.until).within(clock, self.work.context.options.out_of_touch_seconds)

    def _say(self) -> None:
        work, until = self.work, say_time(self.until.replace(microsecond=0), self.work.context.window.zone)
        message = f"waiting: {self.who}; the reboot can wait until {until}"
        work.context.watch.progress(work.name, Step.REBOOT, None, message)
        if not self._told:
            self._told = True
            work.context.watch.said(f"{work.name}: {message}")

    def _pause(self, seconds: float) -> None:
        """Let time pass; when the run is asked to stop meanwhile, only until then."""
        if seconds >= LONGEST_PAUSE / 2:  # opening a connection anew costs less than to hold hundreds that are idle
            self.work.transport.close()
        while seconds > 0 and not self.work.context.control.stopping:
            self.work.context.clock.sleep(min(SLICE_SECONDS, seconds))
            seconds -= SLICE_SECONDS
