"""What became of a change of who patches a machine."""

from typing import Annotated

from inventory.machine import PatchOwner
from tasks.domain.rows.columns import Column, row
from tasks.domain.states import ChangeState


@row
class OwnerChangeRow:
    """A machine whose owner people wanted to change in the inventory."""

    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    result: Annotated[ChangeState, Column("changed, unchanged, planned, refused or failed.")]
    before: Annotated[PatchOwner, Column("Who patched it before.", json_name="ownerBefore")]
    owner: Annotated[PatchOwner, Column("Who patches it now.")]
    file: Annotated[str, Column('The file of the inventory that says so; "": none was to be changed.')]
    message: Annotated[str, Column("Why it was not changed.", is_prose=True)]
    remedy: Annotated[str, Column("What people can do.", is_prose=True)]
