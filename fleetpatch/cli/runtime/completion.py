"""Names for the completion of shells: machines, scopes, runs, updates, fleets, tokens.

It is quiet: what can't be read gives no names. It is quick: no Prefect, and SQLAlchemy only where a name needs it.
"""

import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from inventory.errors import FleetpatchError

if TYPE_CHECKING:
    from inventory.machine import Inventory, Machine

Names: TypeAlias = Sequence[str | tuple[str, str]]
"""Names, some with a remark that zsh and fish show beside them."""
_INSTRUCTION: Final = "_FLEETPATCH_COMPLETE"
_BASH: Final = "complete_bash"
_OPEN_RUN_COMMANDS: Final = frozenset({"approve", "reject", "approvals", "cancel", "resume"})
_TERM_START: Final = re.compile(r"^(?P<before>.*(?:,|\bor\s+))?(?P<term>[^,]*)$")
_MOST_TERMS: Final = 500


@contextmanager
def serve_completion(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Prepare this process if a shell asks it for names; else do nothing.

    bash splits a word at "=" and replaces only the last part: ``env=pr`` is three words to it. They are joined again,
    and what is printed is cut to the part that bash replaces.
    """
    instruction = environment.get(_INSTRUCTION)
    if instruction is None:
        yield
        return
    logging.disable(logging.CRITICAL)
    prefix, answer = _join_words(environment) if instruction == _BASH else "", io.StringIO()
    try:
        with redirect_stdout(answer) if prefix else nullcontext():
            yield
    finally:
        logging.disable(logging.NOTSET)
        for line in answer.getvalue().splitlines():
            print(line.removeprefix(prefix))


def _join_words(environment: MutableMapping[str, str]) -> str:
    """Join the words that bash has split. Return the part of the last one that bash keeps; "" if it was not split."""
    typed_words, number = environment.get("COMP_WORDS", "").split("\n"), int(environment.get("COMP_CWORD", "0"))
    joined = _join_at_equals(typed_words[: number + 1])
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)
    was_split = len(joined) <= number and "=" in joined[-1]
    return joined[-1][: joined[-1].rindex("=") + 1] if was_split else ""


def _join_at_equals(words: Sequence[str]) -> list[str]:
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")) and not joined[-1].startswith("-"):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def complete_run(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - a context of Typer's own click
    """Return ids of runs; of those that are not over, for a command that needs one."""
    needs_open = ctx.info_name in _OPEN_RUN_COMMANDS
    rows = _read("open runs" if needs_open else "runs", ctx)
    runs = {row[0]: f"{row[1]} {row[4]}: {row[2]}, {str(row[3])[:16]} UTC" for row in rows}
    return _keep(incomplete, runs if needs_open or not runs else {"last": "the newest run"} | runs)


def complete_machine(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - the same
    """Return the machines of the inventory, and those of the records."""
    names = dict.fromkeys((row[0] for row in _read("machines", ctx)), "in the records")
    inventory = _load_inventory(ctx)
    return _keep(incomplete, _describe_machines(() if inventory is None else inventory.machines) | names)


def complete_scope(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - the same
    """Return terms that continue a scope: names of machines and groups, and ``key=value``."""
    inventory = _load_inventory(ctx)
    parts = _TERM_START.match(incomplete)
    if inventory is None or parts is None:
        return []
    term = parts["term"]
    blanks = term[: len(term) - len(term.lstrip(" !"))]
    before, term = f"{parts['before'] or ''}{blanks}", term.lstrip(" !")
    key, equals, values = term.partition("=")
    if equals and "|" in values:
        before += f"{key}={values.rpartition('|')[0]}|"
        terms = [name for name in _list_terms(inventory.machines) if name.startswith(f"{key}=")]
        return _keep(incomplete, [f"{before}{name.partition('=')[2]}" for name in terms])
    names: dict[str, str] = {}
    if not equals:
        groups = (group for machine in inventory.machines for group in machine.groups)
        names = _describe_machines(inventory.machines) | dict.fromkeys(groups, "group")
    names |= dict.fromkeys(_list_terms(inventory.machines), "")
    return _keep(incomplete, {f"{before}{name}": remark for name, remark in names.items()})


def complete_update(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - the same
    """Return updates that the records know on the machine of the command."""
    machine = ctx.params.get("machine")
    return _keep(incomplete, [row[0] for row in _read("updates", ctx, machine=machine)] if machine else ())


def complete_held_update(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - the same
    """Return updates that are held."""
    return _keep(incomplete, [(f"{row[0]}={row[1]}", row[2]) for row in _read("held updates", ctx)])


def complete_fleet(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - the same
    """Return the fleets of the records."""
    from tasks.records.queries.names import read_fleet_names

    return _keep(incomplete, _try(lambda: read_fleet_names(ctx.params.get("records"))))


def complete_names(what: str) -> Callable[[Any, str], Names]:
    """Return a completion with the names of one query of the records, see ``tasks/records/queries/names.py``."""

    def complete(ctx: Any, incomplete: str) -> Names:  # noqa: ANN401 - the same
        return _keep(incomplete, [row[0] for row in _read(what, ctx)])

    return complete


def _read(what: str, ctx: Any, **parameters: str) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - the same
    from tasks.records.queries.names import read_names

    return _try(lambda: read_names(what, ctx.params.get("records"), **parameters))


def _try(read: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """Return what can be read. A shell shows no errors: whoever runs the command then sees them."""
    try:
        return read()
    except (FleetpatchError, OSError):
        return ()


def _load_inventory(ctx: Any) -> "Inventory | None":  # noqa: ANN401 - the same
    from inventory.loader import find_inventory, load_inventory

    return next(iter(_try(lambda: [load_inventory(find_inventory(ctx.params.get("inventory")))])), None)


def _describe_machines(machines: "Iterable[Machine]") -> dict[str, str]:
    return {machine.name: " ".join(filter(None, (machine.environment, machine.address))) for machine in machines}


def _list_terms(machines: "Sequence[Machine]") -> list[str]:
    """Return ``key=value`` for all that machines have."""
    terms: dict[str, None] = {}
    for machine in machines:
        pairs = {
            "env": machine.environment,
            "os": machine.os.value,
            "location": machine.location,
            "owner": machine.owner.value,
        }
        terms |= dict.fromkeys(f"{key}={value}" for key, value in (pairs | dict(machine.tags)).items() if value)
    return sorted(terms)[:_MOST_TERMS]


def _keep(incomplete: str, names: Iterable[str | tuple[str, str]] | dict[str, str]) -> Names:
    pairs = names.items() if isinstance(names, dict) else names
    return [pair for pair in pairs if (pair if isinstance(pair, str) else pair[0]).startswith(incomplete)]
