"""Orders the OS disk of a machine from its provider. What really happened, the provider is asked afterwards."""

from dataclasses import replace

from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.images import ImageModel
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import MachineProvider, TimedProvider
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import ProvidedMachine, ProviderAct, ProviderOrder
from tasks.domain.states import Step
from tasks.rules.images.network_config import HostNetwork
from tasks.rules.images.user_data import MachineIdentity
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.facts import read_facts
from tasks.steps.machine.provider_orders import give_order, read_provided_machine
from tasks.steps.machine.reboot_obstacles import require_machine_alone
from tasks.steps.machine.reboot_watch import wait_for_boot_id
from tasks.steps.machine.retry import build_retry_deadline

_BOOT_POLL_SECONDS = 5.0
_DEAD_ORDER_SECONDS = 120.0  # so long after its time, an order whose process has died is at work no more


def build_order_id(context: MachineContext) -> str:
    """Return the id of the order that replaces the machine's OS disk in this run, and of the disk that it keeps."""
    return journal.build_job_id(context.run.id, context.name, journal.REPLACE_ACT, 0)


def find_start(context: MachineContext, act: str) -> JournalEntry | None:
    """Return the journal entry from before an act of this run on the machine; None: it has not begun."""
    entries = context.records.read_entries(context.run.id, context.name)
    return next((entry for entry in entries if entry.mark is JournalMark.BEFORE and entry.act == act), None)


def read_provided(context: MachineContext, provider: MachineProvider) -> ProvidedMachine:
    """Return the machine as its provider sees it now. One that does not answer is asked again for long."""
    return read_provided_machine(context, provider, build_retry_deadline(context))


def order(context: MachineContext, provider: MachineProvider, act: ProviderOrder) -> FleetpatchError | None:
    """Give an order, again while the provider does not answer. Return what went wrong: see ``give_order``.

    The connection to the machine is closed: it goes away. An order of a process that has died may keep the provider
    from this one until its time is over: so long it is given again, as the machine may be off meanwhile. While the
    provider does not answer, somebody else may begin to change packages. So each order of a new disk first waits
    until they have ended. If another process executes this run now, nothing is ordered, and RecordsError is raised.
    """

    def leave_machine() -> None:
        if act.act is ProviderAct.REPLACE_OS_DISK:
            require_machine_alone(context, "its new OS disk")
        context.transport.close()

    limit = provider.order_seconds if isinstance(provider, TimedProvider) else 0.0
    seconds = max(context.options.max_unreachable_seconds, limit + _DEAD_ORDER_SECONDS)
    return give_order(context, provider, act, Deadline.after(context.clock, seconds), before_each=leave_machine)


def wait_for_login(context: MachineContext, boot_id_before: str) -> str:
    """Wait until the machine answers in another boot, and has ended that. Return why not, or "".

    Its baseline is what it is now: a new system has other services, and another boot.
    """
    try:
        if not wait_for_boot_id(context, lambda boot_id: boot_id not in {None, boot_id_before}):
            return f"no login works after {context.coming_up_seconds:.0f} s"
        began, until = context.clock.now(), Deadline.after(context.clock, context.coming_up_seconds)
        while True:
            facts = read_facts(
                context.transport, context.clock, context.build_read_deadline(), context.known_facts, with_units=True
            )
            if not facts.boot_work or until.has_passed(context.clock):
                break
            context.report_wait(f"its boot ends: {facts.boot_work}", began, until.expires_at, Step.REBOOT)
            context.clock.sleep(_BOOT_POLL_SECONDS)
    except RecordsError:
        raise
    except FleetpatchError as error:  # another host key, for example
        context.transport.close()
        return f"it can't be logged in to: {error.message}"
    context.state = replace(context.state, baseline=facts)
    return ""


def read_identity(context: MachineContext, model: ImageModel, *, with_keys: bool) -> MachineIdentity:
    """Read what makes the machine known to others; nothing, if the model keeps nothing of it.

    With its private host keys, the answer is in no record and no log.

    Raises:
        TransportError: the machine does not answer.
    """
    if not (model.keeps_host_keys or model.keeps_machine_id or model.keeps_network):
        return MachineIdentity()
    script = context.build_shared_script("host_identity", {"keys": "yes" if with_keys else "no"})
    answer = context.transport.run_script(script, deadline=context.build_read_deadline())
    keys = {
        str(record.get("type")): (str(record.get("private") or ""), str(record.get("public") or ""))
        for record in answer.find_records("host_key")
    }
    identity, network = (next(iter(answer.find_records(kind)), {}) for kind in ("identity", "network"))
    names = {key: str(identity.get(key) or "") for key in ("name", "fqdn", "machine_id", "machine_id_file")}
    parts = {key: str(network.get(key) or "") for key in ("links", "routes", "routes6", "resolver")}
    is_in_hosts = bool(identity.get("is_in_hosts"))
    return MachineIdentity(**names, is_in_hosts=is_in_hosts, host_keys=keys, network=HostNetwork(**parts))
