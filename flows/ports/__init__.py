"""What a run needs from outside. The public names set the caller of flows that a Python program calls."""

from flows.ports.caller import Caller, use_caller

__all__ = ["Caller", "use_caller"]
