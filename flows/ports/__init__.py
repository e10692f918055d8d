"""What a run needs from outside. The public names: on whose behalf functions of this package's users act."""

from flows.ports.caller import Caller, use_caller

__all__ = ["Caller", "use_caller"]
