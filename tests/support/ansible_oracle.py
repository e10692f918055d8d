"""What the real Ansible makes of an inventory: hosts, groups, variables, and the words that it would give to ssh.

Run as a program, it answers one question a line: Ansible takes a second to start, and hundreds of trees are asked for.
It runs in a process of its own because Ansible changes the process that it is loaded into.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Oracle:
    """Ansible in a process of its own. Use it as a context."""

    def __enter__(self) -> "Oracle":
        words = [sys.executable, "-W", "ignore", "-m", "tests.support.ansible_oracle"]
        where = Path(__file__).parents[2]
        self._child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=where
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._child.communicate()

    def ask(self, path: Path) -> dict[str, Any]:
        """Return what Ansible makes of an inventory.

        Returns:
            ``faults``, what Ansible could not read; and ``hosts``: by name, their ``groups``, ``vars``, and ``ssh``,
            the words for ssh (or the error of a host that has none).
        """
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(str(path)) + "\n")
        self._child.stdin.flush()
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        return answer


def _serve() -> None:
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.playbook.play_context import PlayContext
    from ansible.plugins.loader import connection_loader, init_plugin_loader
    from ansible.template import Templar
    from ansible.utils.display import Display
    from ansible.vars.manager import VariableManager

    init_plugin_loader()
    told: list[str] = []
    display: Any = Display()
    display.warning = lambda msg, *_, **__: told.append(str(msg))
    display.error_as_warning = lambda msg=None, exception=None, **_: told.append(f"{msg} {exception}")
    display.deprecated = lambda *_, **__: None

    def ssh_words(loader: Any, name: str, variables: dict[str, Any]) -> list[str]:
        engine = Templar(loader=loader, variables=variables)
        ours = {key: engine.template(value) for key, value in variables.items() if key.startswith("ansible_")}
        connection = connection_loader.get("ssh", PlayContext(), "/dev/null")
        connection.set_options(var_options={**ours, "inventory_hostname": name})
        host = connection.get_option("host")
        words = connection._build_command("ssh", "ssh", str(host), "true")
        return [word.decode() for word in words]

    def answer(path: str) -> dict[str, Any]:
        told.clear()
        loader = DataLoader()
        found: dict[str, Any] = {}
        try:
            manager = InventoryManager(loader=loader, sources=[path])
            faults = [each for each in told if "arse" in each or "kipping" in each or "Could not" in each]
            variables = VariableManager(loader=loader, inventory=manager)
            for host in manager.get_hosts("all"):
                has = variables.get_vars(host=host, include_hostvars=False, stage="all")
                try:
                    ssh = ssh_words(loader, host.name, has)
                except Exception as error:  # noqa: BLE001 - whatever Ansible can't do is an answer
                    ssh = [f"error: {error}"]
                groups = sorted(group.name for group in host.get_groups() if group.name not in {"all", "ungrouped"})
                plain = {key: value for key, value in has.items() if key.startswith(("ansible_", "fleetpatch_"))}
                found[host.name] = {"groups": groups, "vars": plain, "ssh": ssh}
        except Exception as error:  # noqa: BLE001 - whatever Ansible can't do is an answer
            return {"faults": [*told, repr(error)], "hosts": {}}
        return {"faults": faults, "hosts": found}

    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), default=str), flush=True)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    _serve()
