"""The one rule of every connection to a machine: it is made from the machine's own site."""

from inventory.machine import Machine
from inventory.sites import SITE_VARIABLE, explain_other_site, find_site
from tasks.domain.errors import OtherSite


def require_own_site(machine: Machine) -> None:
    """Refuse a connection to a machine of another site: its address may be another machine's here.

    Raises:
        OtherSite: the machine is of another site.
    """
    if reason := explain_other_site(machine, find_site()):
        raise OtherSite(reason, machine=machine.name, hint=f"Start it at its site ({SITE_VARIABLE}={machine.site}).")
