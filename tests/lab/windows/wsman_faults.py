"""The faults of a Windows host's WS-Management service, with the codes and words of real ones.

The codes are those of wsmerror.h. Words and shapes are those in reports of clients' users: WinRb/WinRM 253 (shell not
found), hashicorp/vagrant 7489 (shells), masterzen/winrm 129 (operations), and in pywinrm's own tests (timed out, the
form of Server 2022 for quotas).
"""

from dataclasses import dataclass, replace
from typing import Literal
from xml.sax.saxutils import escape

TIMED_OUT = 2150858793
SHELL_NOT_FOUND = 2150858843
QUOTA_SHELLS = 2150859173
QUOTA_OPERATIONS = 2150859174
QUOTA_COMMANDS_PER_SHELL = 2150859241
ACCESS_DENIED = 5
INVALID_PARAMETER = 87
PIPE_CLOSED = 232
ABORTED = 995
STALE_PROFILE = 2147943418
UNKNOWN_ACTION = 2150858753
UNKNOWN_RESOURCE = 2150858752
BAD_SCHEMA = 2150858817
ENCODING_LIMIT = 2150858805
IDLE_TIMEOUT_OUT_OF_BOUNDS = 2150859250
CONCURRENCY = 2150858802


@dataclass(eq=False)
class WSManFault(Exception):
    """What a request is answered that fails.

    Attributes:
        form: whether the code is in a WSManFault element or, as Server 2022 tells of quotas, in an MSFT_WmiError.
    """

    code: int
    subcode: str
    text: str
    sender: bool = False
    form: Literal["wsman", "wmi"] = "wsman"

    def body(self, machine: str) -> str:
        """The fault as the body of an envelope."""
        text = escape(f"{self.text} ")
        detail = _wmi_error(self.code, text) if self.form == "wmi" else _wsman_fault(self.code, text, machine)
        return (
            f"<s:Fault><s:Code><s:Value>s:{'Sender' if self.sender else 'Receiver'}</s:Value>"
            f"<s:Subcode><s:Value>{self.subcode}</s:Value></s:Subcode></s:Code>"
            f'<s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>{detail}</s:Detail></s:Fault>'
        )


def _wsman_fault(code: int, text: str, machine: str) -> str:
    return (
        '<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" '
        f'Code="{code}" Machine="{escape(machine)}"><f:Message>{text}</f:Message></f:WSManFault>'
    )


def _wmi_error(code: int, text: str) -> str:
    return (
        '<p:MSFT_WmiError b:IsCIM_Error="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xmlns:b="http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd" '
        'xmlns:p="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError" '
        'xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xsi:type="p:MSFT_WmiError_Type">'
        '<p:CIMStatusCode xsi:type="cim:cimUnsignedInt">27</p:CIMStatusCode>'
        f'<p:Message xsi:type="cim:cimString">{text}</p:Message>'
        f'<p:MessageID xsi:type="cim:cimString">HRESULT 0x{code:x}</p:MessageID>'
        '<p:error_Category xsi:type="cim:cimUnsignedInt">30</p:error_Category>'
        f'<p:error_Code xsi:type="cim:cimUnsignedInt">{code}</p:error_Code>'
        '<p:error_Type xsi:type="cim:cimString">HRESULT</p:error_Type>'
        f'<p:error_WindowsErrorMessage xsi:type="cim:cimString">{text}</p:error_WindowsErrorMessage></p:MSFT_WmiError>'
    )


_CANNOT = "The WS-Management service cannot process the request."


def timed_out() -> WSManFault:
    text = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout. "
    return WSManFault(TIMED_OUT, "w:TimedOut", text)


def shell_not_found(shell: str) -> WSManFault:
    text = (
        f"The request for the Windows Remote Shell with ShellId {shell} failed because the shell was not found on the "
        "server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server. "
        "Provide the correct ShellId or create a new shell and retry the operation."
    )
    return WSManFault(SHELL_NOT_FOUND, "w:InvalidSelectors", text, sender=True)


def quota_shells(limit: int) -> WSManFault:
    text = (
        f"{_CANNOT} This user is allowed a maximum number of {limit} concurrent shells, which has been exceeded. "
        "Close existing shells or raise the quota for this user."
    )
    return WSManFault(QUOTA_SHELLS, "w:QuotaLimit", text)


def quota_operations(limit: int) -> WSManFault:
    text = (
        f"{_CANNOT} This user is allowed a maximum number of {limit} concurrent operations, which has been exceeded. "
        "Close existing operations for this user, or raise the quota for this user."
    )
    return WSManFault(QUOTA_OPERATIONS, "w:QuotaLimit", text)


def quota_operations_wmi(limit: int) -> WSManFault:
    """The same as Server 2022 tells it: clients that look for a WSManFault find none."""
    return replace(quota_operations(limit), subcode="w:InternalError", form="wmi")


def quota_commands(limit: int) -> WSManFault:
    text = f"{_CANNOT} The maximum number of {limit} concurrent commands per shell has been exceeded."
    return WSManFault(QUOTA_COMMANDS_PER_SHELL, "w:QuotaLimit", text)


def access_denied() -> WSManFault:
    return WSManFault(ACCESS_DENIED, "w:AccessDenied", "Access is denied.", sender=True)


def aborted() -> WSManFault:
    text = "The I/O operation has been aborted because of either a thread exit or an application request."
    return WSManFault(ABORTED, "w:InternalError", text)


def command_not_found() -> WSManFault:
    """Its code is that of a lost shell as well; words from pypsrp's tests against a real host."""
    text = (
        "The Windows Remote Shell received a request to perform an operation on a command identifier that does not "
        "exist. Either the command has completed execution or the client specified an invalid command identifier."
    )
    return WSManFault(SHELL_NOT_FOUND, "w:InvalidSelectors", text, sender=True)


def pipe_closed() -> WSManFault:
    """A Send to a program that ended without reading its stdin, as users of ansible saw it behind virus scanners."""
    return WSManFault(PIPE_CLOSED, "w:InternalError", "The pipe is being closed.")


def invalid_parameter() -> WSManFault:
    """As for an empty command line (masterzen/winrm 80)."""
    return WSManFault(INVALID_PARAMETER, "w:InvalidParameter", "The parameter is incorrect.", sender=True)


def stale_profile() -> WSManFault:
    text = "Illegal operation attempted on a registry key that has been marked for deletion."
    return WSManFault(STALE_PROFILE, "w:InternalError", text)


def receive_in_progress() -> WSManFault:
    """Which one a real host tells is not known: wsmerror.h calls the code made for it (2150859047) unused."""
    text = (
        "The WS-Management service cannot complete the WS-Addressing Action URI in the request because the resource "
        "was already in use."
    )
    return WSManFault(CONCURRENCY, "w:Concurrency", text, sender=True)


def unknown_action(action: str) -> WSManFault:
    return WSManFault(UNKNOWN_ACTION, "a:ActionNotSupported", f"{_CANNOT} The action {action} is invalid.", sender=True)


def unknown_resource(uri: str) -> WSManFault:
    text = f"{_CANNOT} The resource URI ({uri}) was not found in the WS-Management catalog."
    return WSManFault(UNKNOWN_RESOURCE, "a:DestinationUnreachable", text, sender=True)


def bad_schema() -> WSManFault:
    text = (
        "The SOAP XML in the message does not match the corresponding XML schema definition. Change the XML and retry."
    )
    return WSManFault(BAD_SCHEMA, "w:SchemaValidationError", text, sender=True)


def too_large() -> WSManFault:
    text = (
        "The WS-Management service cannot process the request because the encoding of the request exceeds an internal "
        "encoding limit. Reconfigure the client to send messages which fit the encoding limits of the service."
    )
    return WSManFault(ENCODING_LIMIT, "w:EncodingLimit", text, sender=True)


def idle_timeout_out_of_bounds() -> WSManFault:
    text = "The Windows Remote Shell cannot process the request: IdleTimeOut is outside of the allowed range."
    return WSManFault(IDLE_TIMEOUT_OUT_OF_BOUNDS, "w:InvalidParameter", text, sender=True)
