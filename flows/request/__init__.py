"""The request models. They are also Prefect's forms and the keys of configuration files."""

from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.policies import ApprovalRequest, FreezeRequest, HookRequest, HooksRequest, NotifyRequest
from flows.request.read_requests import AssessRequest, PlanRequest

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
