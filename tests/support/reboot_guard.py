"""What keeps a simulated machine from being rebooted: it answers as reboot.sh and reboot_obstacles.sh do."""

from dataclasses import dataclass

from tasks.domain.protocols.transport import ScriptRecord
from tests.support.fake_manager import FakeManager, PackageWorld

HOLDER = f"apt-get (pid 80) holds {FakeManager().lock_files[0]}"


@dataclass
class RebootGuard:
    """The machine's own look at what others do with its packages.

    Attributes:
        world: its packages, and the locks that others hold.
        inhibitor: who wants it to stay up, and why; or "".
        has_locks: an order was taken on: from then on nobody else gets the package manager's locks.
        given_up: (about, why) of an order that was taken on and given up.
    """

    world: PackageWorld
    inhibitor: str = ""
    has_locks: bool = False
    given_up: tuple[str, str] | None = None

    @property
    def others_at_work(self) -> bool:
        """Whether somebody else's transaction runs now."""
        now = self.world.clock.now()
        return any(since <= now < until for since, until in self.world.locks)

    def obstacle(self) -> tuple[str, str] | None:
        """Return what keeps the machine from being rebooted: about what, and who."""
        self.world.catch_up()
        if self.others_at_work or self.world.at_work:
            return "lock", HOLDER
        if broken := self.world.shelf.broken():
            return "packages", ", ".join(broken)
        return ("inhibitor", self.inhibitor) if self.inhibitor else None

    def refusal(self, boot_id: str) -> ScriptRecord | None:
        """Return how an order is refused, or None: then it is taken on."""
        if obstacle := self.obstacle():
            return {"kind": "refused", "about": obstacle[0], "why": obstacle[1], "boot_id": boot_id}
        self.has_locks, self.given_up = True, None
        return None

    def gives_up(self) -> bool:
        """Look once more as the machine is about to go down; return whether it stays up."""
        self.has_locks, self.given_up = False, self.obstacle()
        return self.given_up is not None

    def records(self, boot_id: str) -> list[ScriptRecord]:
        """Return what the machine says when it is asked."""
        told: list[ScriptRecord] = [{"kind": "boot", "boot_id": boot_id}]
        if self.given_up:
            told.append({"kind": "given_up", "about": self.given_up[0], "why": self.given_up[1]})
        if obstacle := self.obstacle():
            told.append({"kind": "obstacle", "about": obstacle[0], "why": obstacle[1]})
        return told
