"""The request models. They are also Prefect's forms and the keys of configuration files."""

from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.read_requests import AssessRequest, PlanRequest
from flows.request.request_parts import ApprovalRequest, FreezeRequest, HookRequest, HooksRequest, NotifyRequest

RunRequest = PatchRequest | AssessRequest
"""The request of any run."""

__all__ = [
    "ApprovalRequest",
    "AssessRequest",
    "FreezeRequest",
    "HookRequest",
    "HooksRequest",
    "NotifyRequest",
    "PatchRequest",
    "PlanRequest",
    "UpdatesRequest",
    "WavesRequest",
    "WindowRequest",
]
