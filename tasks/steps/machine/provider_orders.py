"""Gives orders to the provider of a machine, and looks afterwards what became of them."""

import logging
from collections.abc import Callable
from typing import Final

from inventory.machine_providers import find_provider_name
from tasks.domain.errors import DisksTakenBack, FleetpatchError, ProviderError, ProviderUnavailable, RecordsError
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.machine_provider import IdentifyingProvider, MachineProvider, TimedProvider, WatchedProvider
from tasks.domain.provided_machines import PowerState, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.domain.states import FindingLevel
from tasks.rules.machine_identity import IDENTITY_CHECK, describe_identity
from tasks.rules.runs.snapshots import DISKS_CHECK, PROVIDER_CHECK
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import is_transient, retry_transient

ORDER_SECONDS = 3600.0
"""The longest time for one order. The provider's own limit in providers.yaml ends it earlier, as a rule."""
RETRY_SECONDS = 120.0
"""How long a provider that does not answer is asked again."""

_ACTS_IN_WORDS: Final = {
    ProviderAct.TAKE_SNAPSHOT: "takes a snapshot",
    ProviderAct.REVERT: "puts its disks back to its snapshot",
    ProviderAct.DELETE_SNAPSHOT: "deletes a snapshot",
    ProviderAct.REPLACE_OS_DISK: "replaces its OS disk",
    ProviderAct.RESTORE_OS_DISK: "puts its OS disk before back",
    ProviderAct.DELETE_OS_DISK: "deletes an OS disk of before",
    ProviderAct.REWRITE_SEED: "takes host keys from its seed",
    ProviderAct.START: "starts it",
    ProviderAct.STOP: "shuts it down",
    ProviderAct.POWER_OFF: "powers it off",
    ProviderAct.START_OVERLAY: "starts a copy of it",
    ProviderAct.DELETE_OVERLAY: "deletes its copy",
}

OrderGiver = Callable[[MachineContext, MachineProvider, ProviderOrder], FleetpatchError | None]

logger = logging.getLogger(__name__)


def require_provider(context: MachineContext, *acts: ProviderAct) -> MachineProvider:
    """Return the provider of the machine, which can do these acts. Raise FleetpatchError if there is none."""
    provider = context.run_context.open_provider(context.state.machine)
    if provider is None:
        hint = "Give `provider` in its inventory entry, or ask for nothing that needs it."
        raise ProviderError("its inventory entry has no `provider`", machine=context.name, hint=hint)
    if missing := sorted(act.value for act in acts if act not in provider.acts):
        name = find_provider_name(context.state.machine)
        raise ProviderError(f"the provider {name} ({provider.kind}) can't {', '.join(missing)}", machine=context.name)
    return provider


def check_disks(context: MachineContext) -> tuple[Finding, ...]:
    """Return that somebody has taken back what fleetpatch has done to the disks of the machine, or nothing.

    What was seen once holds until it is seen to be mended: a provider that does not answer changes nothing of it.
    """
    loss = ""
    try:
        provider = context.run_context.open_provider(context.state.machine)
        if provider is not None and isinstance(provider, WatchedProvider) and provider.has_notes():
            loss = provider.recorded_loss()
            read_provided_machine(context, provider)
    except RecordsError:
        raise
    except DisksTakenBack as error:
        return (describe_taken_back(error),)
    except FleetpatchError as error:
        message = f"whether its disks are as fleetpatch has left them is not known: {error.message}"
        if loss:
            return (Finding(DISKS_CHECK, FindingLevel.BLOCK, f"{message}; before: {loss.splitlines()[0]}", error.hint),)
        return (Finding(DISKS_CHECK, FindingLevel.WARN, message, error.hint),)
    return ()


def describe_taken_back(error: DisksTakenBack) -> Finding:
    """Return it as a finding, which stops the machine."""
    return Finding(DISKS_CHECK, FindingLevel.BLOCK, error.message, error.hint)


def check_identity(
    context: MachineContext,
    unknown_level: FindingLevel = FindingLevel.BLOCK,
    provided: ProvidedMachine | None = None,
) -> tuple[Finding, ...]:
    """Return whether a machine is the one that its provider means. Without a provider, nothing.

    Args:
        context: of the machine.
        unknown_level: for a machine that nothing proves, or whose provider does not answer.
        provided: the machine as its provider has shown it just now; None: it is asked.
    """
    machine = context.state.machine
    if not machine.provider:
        return ()
    try:
        provider = require_provider(context)
        if not isinstance(provider, IdentifyingProvider):
            return ()
        provided = provided or read_provided_machine(context, provider, context.build_read_deadline())
        proof = provider.prove_identity(provided, deadline=context.build_read_deadline())
    except RecordsError:
        raise
    except DisksTakenBack as error:
        return (describe_taken_back(error),)
    except FleetpatchError as error:
        message = f"{machine.provider} does not say who it is: {error.message}"
        check = PROVIDER_CHECK if is_transient(error) else IDENTITY_CHECK
        return (Finding(check, unknown_level, message, error.hint),)
    return (describe_identity(proof, machine.identity, unknown_level),)


def read_provided_machine(
    context: MachineContext, provider: MachineProvider, until: Deadline | None = None
) -> ProvidedMachine:
    """Return the machine as its provider sees it. One that does not answer is asked again until then, or a while."""
    return retry_transient(
        context,
        lambda: provider.read_machine(deadline=context.build_read_deadline()),
        until or Deadline.after(context.clock, RETRY_SECONDS),
        asks_provider=True,
    )


def order_and_read(
    context: MachineContext, provider: MachineProvider, order: ProviderOrder
) -> tuple[ProvidedMachine, FleetpatchError | None]:
    """Give an order, again if its answer is lost. Return the machine as it is afterwards, and what went wrong.

    Raises:
        RecordsError: another process executes the run now; nothing was ordered.
        FleetpatchError: how the machine is afterwards can't be read. The order may have been carried out.
    """
    error = give_order(context, provider, order)
    return read_provided_machine(context, provider), error


def give_order(
    context: MachineContext,
    provider: MachineProvider,
    order: ProviderOrder,
    until: Deadline | None = None,
    *,
    before_each: Callable[[], None] = lambda: None,
) -> FleetpatchError | None:
    """Give an order, again until then, or a while, if its answer is lost. Return what went wrong.

    A transient error: the order may be carried out. So may one that was refused after an order without an answer.
    ``before_each`` is called before each of them, and its error is a refusal.

    Raises:
        RecordsError: another process executes the run now; nothing was ordered.
    """
    clock, orders = context.clock, 0

    def give() -> str:
        nonlocal orders
        # this process may have been suspended since the last check
        if not context.stop_token.still_holds_lease():
            raise RecordsError("another process executes this run now, so this process does nothing more")
        orders += 1
        before_each()
        limit = provider.order_seconds if isinstance(provider, TimedProvider) else ORDER_SECONDS
        deadline = Deadline.after(clock, min(limit, ORDER_SECONDS))
        context.report_wait(f"its provider {_describe_act(order)}", clock.now(), deadline.expires_at)
        return provider.carry_out(order, deadline=deadline)

    try:
        note = retry_transient(context, give, until or Deadline.after(clock, RETRY_SECONDS), asks_provider=True)
        if note:
            logger.info("%s: %s: %s", context.name, order.act, note)
    except RecordsError:
        raise
    except FleetpatchError as error:
        if orders > 1 and not is_transient(error):
            return ProviderUnavailable(f"{error.message}, and an earlier order was not answered", hint=error.hint)
        return error
    return None


def _describe_act(order: ProviderOrder) -> str:
    version = f" by {order.image.image} {order.image.version}" if order.image is not None else ""
    return f"{_ACTS_IN_WORDS[order.act]}{version}"


def start_if_stopped(
    context: MachineContext, provider: MachineProvider, machine: ProvidedMachine, give: OrderGiver = give_order
) -> FleetpatchError | None:
    """Order the start of a machine that does not run. Return what went wrong: see ``give_order``."""
    is_running = machine.power is PowerState.RUNNING
    return None if is_running else give(context, provider, ProviderOrder(ProviderAct.START))
