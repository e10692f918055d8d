"""How each scheduled fault looks to a client."""

import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from tests.lab.windows import wsman_faults
from tests.lab.windows.executor import Stream
from tests.lab.windows.fault_schedule import Fault, What
from tests.lab.windows.http_messages import Response
from tests.lab.windows.messages import SHELL, Message, envelope
from tests.lab.windows.service import Reply, Service, output
from tests.lab.windows.shells import Received
from tests.lab.windows.wsman_faults import WSManFault

KEEP_THE_ANSWER = frozenset({What.BAD_SEAL, What.SLOW, What.TRICKLE, What.CUT, What.CLOSE, What.OTHER_CERTIFICATE})
"""The operation is done, and its answer is what the fault happens to."""
_PAGE = b"<html><head><title>Blocked</title></head><body><p>Your organisation does not allow this</body></html>"


_BOMB = "".join(f'<!ENTITY {name} "{f"&{before};" * 100}">' for before, name in pairwise("abcdefg"))
_BODIES = {
    What.BAD_XML: b"<s:Envelope><s:Header></s:Envelope>",
    What.XML_BOMB: f'<!DOCTYPE x [<!ENTITY a "{"x" * 100}">{_BOMB}]><x>&g;</x>'.encode(),
    What.BAD_OUTPUT: envelope(
        f"{SHELL}/ReceiveResponse",
        "",
        '<rsp:ReceiveResponse><rsp:Stream Name="stdout">=%&lt;</rsp:Stream>'
        f'<rsp:CommandState State="{SHELL}/CommandState/Done"><rsp:ExitCode>good</rsp:ExitCode></rsp:CommandState>'
        "</rsp:ReceiveResponse>",
    ),
}


class Dropped(Exception):
    """The connection ends here."""


class Line(Protocol):
    """A connection, as far as faults happen to it."""

    def end(self, *, reset: bool) -> None: ...

    def send_half(self, response: Response) -> None: ...

    def send_slowly(self, response: Response, seconds: float) -> None: ...

    def send_for_ever(self, response: Response) -> None: ...

    def wait_ended(self, seconds: float | None) -> bool: ...

    def wait_gone(self) -> None: ...


def at_connect(fault: Fault, line: Line) -> None:
    """What happens before anything is read."""
    match fault.what:
        case What.RESET | What.POWER_LOSS | What.REBOOT | What.SERVICE_RESTART:
            line.end(reset=True)
            raise Dropped
        case What.CLOSE:
            line.end(reset=False)
            raise Dropped
        case What.HANG:
            line.wait_ended(None)
            raise Dropped
        case What.SLOW:
            line.wait_ended(fault.seconds)


class Mishap:
    """One fault at one message."""

    def __init__(self, fault: Fault, message: Message, service: Service) -> None:
        self._fault = fault
        self._message = message
        self._service = service

    def reply(self, real: Reply | None) -> Reply | None:
        """What is answered inside WS-Management, if anything is."""
        what, relates_to = self._fault.what, self._message.message_id
        if what is What.SHELL_LOST:
            self._service.shells.lose(self._message.shell_id)
        if what in _FAULTS:
            return self._service.fault(_FAULTS[what](self._message), relates_to)
        if what in _BODIES:
            return 200, _BODIES[what]
        if what is What.OTHER_ANSWER:
            return 200, self._other_answer()
        return real if what in KEEP_THE_ANSWER else None

    def _other_answer(self) -> bytes:
        """As a proxy gives it that mixes up answers: well formed, of the same kind, about something else."""
        made = str(uuid.uuid4()).upper()
        pieces: tuple[tuple[Stream, bytes], ...] = (("stdout", b"not yours\r\n"),)
        bodies = {
            "Create": f'<x:ResourceCreated><w:Selector Name="ShellId">{made}</w:Selector></x:ResourceCreated>',
            "Command": f"<rsp:CommandResponse><rsp:CommandId>{made}</rsp:CommandId></rsp:CommandResponse>",
            "Receive": f"<rsp:ReceiveResponse>{output(made, Received(pieces, 0))}</rsp:ReceiveResponse>",
        }
        body = bodies.get(self._message.operation, f"<rsp:{self._message.operation}Response/>")
        return envelope(f"{self._message.action}Response", f"uuid:{uuid.uuid4()}", body)

    def response(self, challenge: tuple[tuple[str, str], ...]) -> Response:
        """What is answered outside of WS-Management, in the clear."""
        match self._fault.what:
            case What.UNAUTHORISED:
                return Response(401, headers=challenge)
            case What.UNAVAILABLE:
                return Response(503, b"<h2>Service Unavailable</h2>", content_type="text/html")
            case What.REDIRECT:
                return Response(302, headers=(("Location", self._fault.location),))
            case What.GARBAGE:
                return Response(200, _PAGE, content_type="text/html")
            case _:
                return Response(500)

    def send(self, line: Line, response: Response) -> Response:
        """Have happen what happens to an answer on its way; what is returned goes out."""
        match self._fault.what:
            case What.RESET | What.POWER_LOSS | What.REBOOT | What.SERVICE_RESTART:
                line.end(reset=True)
                raise Dropped
            case What.CUT:
                line.send_half(response)
                line.end(reset=True)
                raise Dropped
            case What.HANG:
                line.wait_gone()
                raise Dropped
            case What.SLOW:
                line.wait_ended(self._fault.seconds)
            case What.TRICKLE:
                line.send_slowly(response, self._fault.seconds)
                raise Dropped
            case What.FLOOD:
                line.send_for_ever(Response(200, b"<s:Envelope"))
                raise Dropped
            case What.CLOSE:
                return replace(response, hang_up=True)
            case What.BAD_SEAL:
                return _changed(response)
        return response


def _changed(response: Response) -> Response:
    """An encrypted answer with one bit of its signature turned."""
    body = bytearray(response.body)
    found = re.search(rb"octet-stream\r\n", response.body)
    if found:
        body[found.end() + 4 + 6] ^= 1
    return replace(response, body=bytes(body))


_FAULTS: dict[What, Callable[[Message], WSManFault]] = {
    What.TIMED_OUT: lambda _: wsman_faults.timed_out(),
    What.PIPE_CLOSED: lambda _: wsman_faults.pipe_closed(),
    What.SHELL_LOST: lambda message: wsman_faults.shell_not_found(message.shell_id),
    What.QUOTA_SHELLS: lambda _: wsman_faults.quota_shells(30),
    What.QUOTA_OPERATIONS: lambda _: wsman_faults.quota_operations(1500),
    What.QUOTA_OPERATIONS_WMI: lambda _: wsman_faults.quota_operations_wmi(1500),
    What.ACCESS_DENIED: lambda _: wsman_faults.access_denied(),
    What.ABORTED: lambda _: wsman_faults.aborted(),
    What.STALE_PROFILE: lambda _: wsman_faults.stale_profile(),
}
