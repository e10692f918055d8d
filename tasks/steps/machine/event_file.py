"""The document of scheduled events as a file on the machine, for machines whose programs can't reach the endpoint.

The run itself lays it down, and looks for approvals beside it while it waits. The file tells a machine only what it
would be told by the endpoint, in the newest version of Azure's document.
"""

import json
import logging
from collections.abc import Sequence
from typing import Final

from inventory.event_delivery import EventDelivery
from tasks.domain.errors import FleetpatchError, ScriptFailed
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.scheduled_events import ScheduledEvents
from tasks.domain.protocols.transport import ScriptParameter, ScriptRecord
from tasks.rules.scheduled_events import NEWEST_VERSION, build_document, parse_incarnation
from tasks.steps.context.machine_context import MachineContext

logger = logging.getLogger(__name__)

SCRIPT: Final = "event_file"
_SCRIPT_SECONDS: Final = 60.0


def has_event_file(context: MachineContext) -> bool:
    """Return whether the owner of a machine wants its events as a file."""
    return context.state.machine.scheduled_events is EventDelivery.FILE


def write_event_file(context: MachineContext, events: ScheduledEvents, over: Sequence[str] = ()) -> None:
    """Write what a machine is told into its file. Its incarnation is above that of the file that lies there.

    Args:
        context: of the machine.
        events: the scheduled events.
        over: the ids of events whose approvals are removed.

    Raises:
        ScriptFailed: the machine refused it.
        TransportError: it could not be asked.
        RecordsError: the document can't be read.
    """
    (known, *_) = _run_script(context, {"work": "look"})
    text = str(known.get("text", ""))
    told, document = parse_incarnation(text), events.read_document(context.name)
    wanted = json.dumps(build_document(document, NEWEST_VERSION))
    if told >= document.incarnation and text != wanted:
        wanted = json.dumps(build_document(events.read_document(context.name, told), NEWEST_VERSION))
    if text != wanted or over:
        _run_script(context, {"work": "tell", "document": wanted, "over": tuple(over)})


def read_approvals(context: MachineContext, events: ScheduledEvents, event_id: str) -> None:
    """Store the approval of an event that a program has put beside the file. A machine that is silent has given none.

    Raises:
        RecordsError: it can't be stored.
    """
    try:
        records = _run_script(context, {"work": "look", "events": (event_id,)})
    except FleetpatchError as error:  # its time comes all the same
        logger.info("%s: its approvals can't be read: %s", context.name, error.message)
        context.transport.close()
        return
    approved = [str(record.get("event")) for record in records if record.get("kind") == "approval"]
    if event_id in approved:
        events.approve(context.name, [event_id])


def _run_script(context: MachineContext, params: dict[str, ScriptParameter]) -> Sequence[ScriptRecord]:
    script = context.build_shared_script(SCRIPT, params, read_only=params["work"] == "look")
    result = context.transport.run_script(script, deadline=Deadline.after(context.clock, _SCRIPT_SECONDS))
    refused = next(iter(result.find_records("refused")), None)
    if refused is not None or not result.records:
        reason = refused.get("why") if refused is not None else "it gave no answer"
        raise ScriptFailed(
            f"the file of scheduled events can't be used: {reason}",
            exit_code=result.exit_code,
            machine=context.name,
            hint="Remove that folder, or set `scheduled_events` of the machine to another value.",
        )
    return result.records
