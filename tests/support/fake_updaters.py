"""What updates a simulated machine by itself, and what a run makes of it."""

from dataclasses import dataclass, field

from tasks.domain.protocols.transport import ScriptRecord


@dataclass
class Updaters:
    """What updates a machine by itself.

    Attributes:
        names: of what would act.
        masked: those that their owner has put to rest.
        stuck: those that can't be paused, or not be brought back.
        running: what is at work now.
        resting: what rests, for the run and in the boot that ``by`` and ``boot`` say.
        asked: "pause" or "restore" of each order that reached it.
    """

    names: tuple[str, ...] = ("fake.timer",)
    masked: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    resting: tuple[str, ...] = ()
    by: str = ""
    boot: str = ""
    asked: list[str] = field(default_factory=list)

    def order(self, work: str, run: str, boot: str) -> list[ScriptRecord]:
        """Do as a real machine's script does, and say what it says."""
        self.asked.append(work)
        gone = self.boot != boot
        if work == "pause":
            mine = [name for name in self.names if name not in self.masked]
            self.resting, self.by, self.boot = tuple(name for name in mine if name not in self.stuck), run, boot
            return [
                *({"kind": "left", "unit": name, "why": "its owner has masked it"} for name in self.masked),
                *({"kind": "paused", "unit": name} for name in self.resting),
                *({"kind": "failed", "unit": name, "why": "no"} for name in mine if name in self.stuck),
                *({"kind": "running", "unit": name} for name in self.running),
                *([] if mine else [{"kind": "nothing", "why": "none of its own updaters is switched on"}]),
            ]
        if self.by != run:
            return [{"kind": "nothing", "why": "this run has none rest here"}]
        back, how = self.resting, "a reboot has brought it back" if gone else "it is as it was"
        stuck = () if gone else tuple(name for name in back if name in self.stuck)
        self.resting, self.by = stuck, run if stuck else ""
        told: list[ScriptRecord] = [{"kind": "failed", "unit": name, "why": "no"} for name in stuck]
        return [*told, *({"kind": "back", "unit": name, "how": how} for name in back if name not in stuck)]
