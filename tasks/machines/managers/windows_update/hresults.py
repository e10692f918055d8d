"""The error codes of the Windows Update Agent and of what it calls: their names, what they mean, and what helps. Pure.

A row of the table is CODE | NAME | cause of failure | retry class | meaning | remedy. The names are those of wuerror.h,
winerror.h and cbs.h. Meanings and remedies are our own words. A code is a number of 32 bits. PowerShell shows it with a
sign, documents show it without one.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.protocols.package_manager import FailureCause

_DISM: Final = "repair the component store: dism /online /cleanup-image /restorehealth"
_DATA_STORE: Final = "stop wuauserv, rename SoftwareDistribution, start it again"
_NETWORK: Final = "check DNS, the proxy of WinHTTP (netsh winhttp show proxy) and the firewall"
_WSUS: Final = "look at the WSUS server: its application pool, its disk and its log"
_BUSY: Final = "another installation is at work"

_AGENT: Final = (
    "00240001 | WU_S_SERVICE_STOP | failed | done | the agent stopped as asked",
    "00240007 | WU_S_ALREADY_UNINSTALLED | failed | done | it is not installed any more",
    "00240008 | WU_S_ALREADY_DOWNLOADED | failed | done | it was downloaded already",
    "00240005 | WU_S_REBOOT_REQUIRED | failed | done | it needs a reboot to be complete",
    "00240006 | WU_S_ALREADY_INSTALLED | failed | done | it was installed already",
    "80240001 | WU_E_NO_SERVICE | failed | configuration | the agent could not provide its service | start wuauserv",
    "80240004 | WU_E_NOT_INITIALIZED | failed | transient | the agent is not ready yet",
    "80240007 | WU_E_INVALIDINDEX | failed | permanent | the update is not in the agent's list any more",
    "80240008 | WU_E_ITEMNOTFOUND | gone | permanent | the agent does not know that update any more",
    f"80240009 | WU_E_OPERATIONINPROGRESS | lock | transient | {_BUSY}",
    "8024000B | WU_E_CALL_CANCELLED | interrupted | transient | the call was cancelled",
    "8024000C | WU_E_NOOP | failed | done | there was nothing to do",
    "8024000E | WU_E_XML_INVALID | failed | permanent | the update's description is damaged",
    "8024000F | WU_E_CYCLE_DETECTED | refused | permanent | updates depend on each other in a circle",
    "80240010 | WU_E_TOO_DEEP_RELATION | refused | permanent | updates depend on each other too deeply",
    "80240013 | WU_E_DUPLICATE_ITEM | failed | permanent | the update is in the list twice",
    f"80240016 | WU_E_INSTALL_NOT_ALLOWED | lock | reboot | {_BUSY}, or Windows must be rebooted first",
    "80240017 | WU_E_NOT_APPLICABLE | refused | permanent | the update does not apply to this machine (any more)",
    "80240019 | WU_E_EXCLUSIVE_INSTALL_CONFLICT | refused | permanent | the update must be installed alone",
    "8024001A | WU_E_POLICY_NOT_SET | failed | configuration | a policy that the agent needs is not set",
    "8024001B | WU_E_SELFUPDATE_IN_PROGRESS | lock | transient | the agent updates itself",
    "8024001E | WU_E_SERVICE_STOP | interrupted | transient | the agent's service or the system is stopping",
    f"8024001F | WU_E_NO_CONNECTION | fetch | transient | there is no network connection | {_NETWORK}",
    "80240020 | WU_E_NO_INTERACTIVE_USER | refused | permanent | the update asks a person, and no user is logged on",
    f"80240021 | WU_E_TIME_OUT | fetch | transient | it took too long | {_NETWORK}",
    "80240022 | WU_E_ALL_UPDATES_FAILED | failed | permanent | each of the updates failed",
    "80240023 | WU_E_EULAS_DECLINED | refused | permanent | its licence terms are not accepted",
    "80240024 | WU_E_NO_UPDATE | failed | done | there are no updates",
    "80240025 | WU_E_USER_ACCESS_DISABLED | refused | configuration | a policy forbids Windows Update | look at"
    " DisableWindowsUpdateAccess",
    "80240028 | WU_E_UNINSTALL_NOT_ALLOWED | refused | configuration | it can't be removed",
    "8024002B | WU_E_LEGACYSERVER | fetch | configuration | the server is too old for this agent",
    "8024002C | WU_E_BIN_SOURCE_ABSENT | fetch | permanent | a patch needs the source files of its product",
    "8024002D | WU_E_SOURCE_ABSENT | fetch | permanent | a full file of the update needs the source of its product",
    "8024002E | WU_E_WU_DISABLED | refused | configuration | updates from an unmanaged server are not allowed | look at"
    " the policies UseWUServer and DoNotConnectToWindowsUpdateInternetLocations",
    "8024002F | WU_E_CALL_CANCELLED_BY_POLICY | refused | configuration | a policy cancelled the call | look at"
    " DisableWindowsUpdateAccess",
    "80240030 | WU_E_INVALID_PROXY_SERVER | fetch | configuration | the proxy's address is not valid"
    " | netsh winhttp show proxy",
    "80240032 | WU_E_INVALID_CRITERIA | failed | permanent | the search was not understood | tell fleetpatch's makers",
    f"80240034 | WU_E_DOWNLOAD_FAILED | fetch | transient | the download failed | {_NETWORK}",
    "80240036 | WU_E_INVALID_OPERATION | failed | permanent | the agent is not in a state for this",
    "80240037 | WU_E_NOT_SUPPORTED | failed | permanent | the agent can't do this",
    "80240056 | WU_E_SYSTEM_UNSUPPORTED | refused | permanent | this version of Windows is not supported any more",
    "80240042 | WU_E_UNKNOWN_SERVICE | fetch | configuration | the agent does not know that update service",
    "80240044 | WU_E_PER_MACHINE_UPDATE_ACCESS_DENIED | refused | configuration | only an administrator may do this",
    "80240FFF | WU_E_UNEXPECTED | failed | permanent | the agent met something unexpected | see WindowsUpdate.log",
    "80241001 | WU_E_MSI_WRONG_VERSION | failed | permanent | Windows Installer is too old",
    "80242006 | WU_E_UH_INVALIDMETADATA | failed | permanent | the update's description is not valid | " + _DATA_STORE,
    "8024200F | WU_E_UH_INCONSISTENT_FILE_NAMES | failed | permanent | the update's files do not match its description",
    "8024200B | WU_E_UH_INSTALLERFAILURE | maintainer-script | permanent | the update's installer failed"
    " | see C:\\Windows\\Logs\\CBS\\CBS.log",
    "8024200D | WU_E_UH_NEEDANOTHERDOWNLOAD | fetch | transient | the update has to be downloaded again",
    "8024200E | WU_E_UH_NOTIFYFAILURE | maintainer-script | permanent | the installer gave no result",
    "80242002 | WU_E_UH_UNKNOWNHANDLER | failed | permanent | the agent does not know that kind of update",
    "80242014 | WU_E_UH_POSTREBOOTSTILLPENDING | interrupted | reboot | the work after a reboot is not over",
    "80242015 | WU_E_UH_POSTREBOOTRESULTUNKNOWN | failed | permanent | what came of it after the reboot is not known",
    "80242016 | WU_E_UH_POSTREBOOTUNEXPECTEDSTATE | failed | permanent | after the reboot it is not as expected",
    "80242017 | WU_E_UH_NEW_SERVICING_STACK_REQUIRED | refused | permanent | a newer servicing stack has to be"
    " installed first",
    "8024201D | WU_E_UH_HANDLER_DISABLEDUNTILREBOOT | interrupted | reboot | the installer works again after a reboot",
    "8024402C | WU_E_PT_WINHTTP_NAME_NOT_RESOLVED | fetch | transient | the server's or the proxy's name is not known"
    f" | {_NETWORK}",
    "80244007 | WU_E_PT_SOAPCLIENT_SOAPFAULT | fetch | transient | the update server answered with an error",
    "80244008 | WU_E_PT_SOAPCLIENT_PARSEFAULT | fetch | transient | the update server's answer was not understood",
    "80244010 | WU_E_PT_EXCEEDED_MAX_SERVER_TRIPS | fetch | transient | the search needs more exchanges with WSUS than"
    " one call may have",
    "80244015 | WU_E_PT_REFRESH_CACHE_REQUIRED | fetch | transient | the server wants a new exchange",
    "80244016 | WU_E_PT_HTTP_STATUS_BAD_REQUEST | fetch | configuration | the server refused the request (HTTP 400)",
    "80244017 | WU_E_PT_HTTP_STATUS_DENIED | fetch | configuration | the server wants a login (HTTP 401)",
    "80244018 | WU_E_PT_HTTP_STATUS_FORBIDDEN | fetch | configuration | the server or the proxy forbids it (HTTP 403)",
    "80244019 | WU_E_PT_HTTP_STATUS_NOT_FOUND | fetch | configuration | the server does not have it (HTTP 404)",
    "8024401B | WU_E_PT_HTTP_STATUS_PROXY_AUTH_REQ | fetch | configuration | the proxy wants a login (HTTP 407)",
    "8024401C | WU_E_PT_HTTP_STATUS_REQUEST_TIMEOUT | fetch | transient | the server waited too long (HTTP 408)",
    f"8024401F | WU_E_PT_HTTP_STATUS_SERVER_ERROR | fetch | transient | the server failed (HTTP 500) | {_WSUS}",
    "80244021 | WU_E_PT_HTTP_STATUS_BAD_GATEWAY | fetch | transient | the proxy got no good answer (HTTP 502)",
    "80244022 | WU_E_PT_HTTP_STATUS_SERVICE_UNAVAIL | fetch | transient | the server is overloaded (HTTP"
    f" 503) | {_WSUS}",
    "80244023 | WU_E_PT_HTTP_STATUS_GATEWAY_TIMEOUT | fetch | transient | the proxy got no answer (HTTP 504)",
    "8024402F | WU_E_PT_ECP_SUCCEEDED_WITH_ERRORS | fetch | transient | part of the exchange failed",
    "80240438 | WU_E_PT_ENDPOINT_UNREACHABLE | fetch | transient | the update server can't be reached | " + _NETWORK,
    "80240440 | WU_E_PT_ENDPOINT_DISCONNECTED | fetch | transient | the update server ended the connection",
    "80244FFF | WU_E_PT_UNEXPECTED | fetch | transient | the exchange with the server met something unexpected",
    "8024500C | WU_E_REDIRECTOR_CONNECT_POLICY | fetch | configuration | a policy forbids Windows Update by internet"
    " | look at DoNotConnectToWindowsUpdateInternetLocations",
    "80246007 | WU_E_DM_NOTDOWNLOADED | fetch | transient | it is not downloaded",
    "80246008 | WU_E_DM_FAILTOCONNECTTOBITS | fetch | transient | the service BITS could not be reached | start bits",
    "80248000 | WU_E_DS_SHUTDOWN | interrupted | transient | the agent's data store is closing",
    "80248007 | WU_E_DS_NODATA | failed | transient | the agent's data store lacks what was asked",
    f"80248011 | WU_E_DS_UNABLETOSTART | failed | transient | the agent's data store can't be opened | {_DATA_STORE}",
    "80248014 | WU_E_DS_UNKNOWNSERVICE | failed | configuration | the update service is not registered",
    "8024A000 | WU_E_AU_NOSERVICE | failed | configuration | Automatic Updates does not run | start wuauserv",
    "8024A004 | WU_E_AU_PAUSED | failed | configuration | Automatic Updates is paused",
    "8024A005 | WU_E_AU_NO_REGISTERED_SERVICE | failed | configuration | Automatic Updates has no update service",
)
_SYSTEM: Final = (
    "80004005 | E_FAIL | failed | permanent | it failed without a reason",
    "8000FFFF | E_UNEXPECTED | failed | permanent | something unexpected",
    "80004004 | E_ABORT | interrupted | transient | it was aborted",
    "80010108 | RPC_E_DISCONNECTED | interrupted | transient | the agent ended during the call",
    "80070002 | ERROR_FILE_NOT_FOUND | failed | permanent | a file is missing | " + _DISM,
    "80070003 | ERROR_PATH_NOT_FOUND | failed | permanent | a folder is missing | " + _DATA_STORE,
    "80070005 | E_ACCESSDENIED | refused | configuration | access denied",
    "80070008 | ERROR_NOT_ENOUGH_MEMORY | failed | transient | not enough memory",
    "8007000D | ERROR_INVALID_DATA | failed | permanent | data is damaged | " + _DISM,
    "8007000E | E_OUTOFMEMORY | failed | transient | not enough memory",
    "80070020 | ERROR_SHARING_VIOLATION | failed | transient | another program has a file open | look at the virus"
    " scanner",
    "80070070 | ERROR_DISK_FULL | space | permanent | the disk is full",
    "80070422 | ERROR_SERVICE_DISABLED | refused | configuration | a service that it needs is disabled | allow wuauserv"
    " to start",
    "8007045B | ERROR_SHUTDOWN_IN_PROGRESS | interrupted | transient | the system is shutting down",
    "80070490 | ERROR_NOT_FOUND | maintainer-script | permanent | a component is missing | " + _DISM,
    "800705B4 | ERROR_TIMEOUT | failed | transient | it took too long",
    "80070641 | ERROR_INSTALL_SERVICE_FAILURE | failed | permanent | Windows Installer can't be used",
    "80070643 | ERROR_INSTALL_FAILURE | maintainer-script | permanent | the installer failed | see its log, for updates"
    " of WinRE the size of the recovery partition",
    "80070642 | ERROR_INSTALL_USEREXIT | maintainer-script | permanent | the installer was cancelled",
    "80070652 | ERROR_INSTALL_ALREADY_RUNNING | lock | transient | another installation is at work",
    "80070645 | ERROR_UNKNOWN_PRODUCT | maintainer-script | permanent | its product is not installed",
    "8007064A | ERROR_BAD_CONFIGURATION | maintainer-script | permanent | the product's configuration data is damaged"
    " | repair the product",
    "8007064C | ERROR_INSTALL_SOURCE_ABSENT | maintainer-script | permanent | the source of the installed product is"
    " missing | repair the product",
    "80070653 | ERROR_INSTALL_PACKAGE_OPEN_FAILED | maintainer-script | permanent | the package could not be opened",
    "80070654 | ERROR_INSTALL_PACKAGE_INVALID | maintainer-script | permanent | the package is not valid",
    "80070656 | ERROR_INSTALL_LOG_FAILURE | maintainer-script | permanent | the installer could not write its log",
    "80070659 | ERROR_INSTALL_PACKAGE_REJECTED | refused | configuration | a policy of Windows Installer forbids it",
    "8007065B | ERROR_FUNCTION_FAILED | maintainer-script | permanent | a function of the installer failed",
    "80070660 | ERROR_INSTALL_TEMP_UNWRITABLE | maintainer-script | permanent | the folder for temporary files can't be"
    " written",
    "80070661 | ERROR_INSTALL_PLATFORM_UNSUPPORTED | refused | permanent | the package is for another architecture",
    "80070663 | ERROR_PATCH_PACKAGE_OPEN_FAILED | maintainer-script | permanent | the patch could not be opened",
    "80070664 | ERROR_PATCH_PACKAGE_INVALID | maintainer-script | permanent | the patch is not valid",
    "80070665 | ERROR_PATCH_PACKAGE_UNSUPPORTED | maintainer-script | permanent | Windows Installer is too old for the"
    " patch",
    "80070666 | ERROR_PRODUCT_VERSION | maintainer-script | permanent | another version of the product is installed",
    "80070669 | ERROR_SUCCESS_REBOOT_INITIATED | failed | done | the installer has begun a reboot",
    "8007066A | ERROR_PATCH_TARGET_NOT_FOUND | maintainer-script | permanent | its product is not found",
    "8007066B | ERROR_PATCH_PACKAGE_REJECTED | refused | configuration | a policy of Windows Installer forbids the"
    " patch",
    "80070BC2 | ERROR_SUCCESS_REBOOT_REQUIRED | failed | done | it needs a reboot to be complete",
    "80070BC9 | ERROR_FAIL_REBOOT_REQUIRED | interrupted | reboot | it failed, and a reboot is needed first",
    "800706BA | RPC_S_SERVER_UNAVAILABLE | failed | transient | the agent could not be reached | restart wuauserv",
    "800706BE | RPC_S_CALL_FAILED | interrupted | transient | the agent ended during the call | restart wuauserv",
    "80080005 | CO_E_SERVER_EXEC_FAILURE | failed | transient | the agent could not be started | restart wuauserv",
    "80040154 | REGDB_E_CLASSNOTREG | failed | permanent | the agent is not installed properly",
    "80072EE2 | ERROR_INTERNET_TIMEOUT | fetch | transient | the update server did not answer in time | " + _NETWORK,
    "80072EE7 | ERROR_INTERNET_NAME_NOT_RESOLVED | fetch | transient | the update server's name is not known | "
    + _NETWORK,
    "80072EFD | ERROR_INTERNET_CANNOT_CONNECT | fetch | transient | the update server can't be reached | " + _NETWORK,
    "80072EFE | ERROR_INTERNET_CONNECTION_ABORTED | fetch | transient | the connection to the update server broke",
    "80072F78 | ERROR_HTTP_INVALID_SERVER_RESPONSE | fetch | transient | the update server's answer was not understood",
    "80072F8F | ERROR_INTERNET_DECODING_FAILED | fetch | configuration | the server has no trusted certificate | check"
    " the machine's clock, its root certificates and TLS 1.2",
    "80073712 | ERROR_SXS_COMPONENT_STORE_CORRUPT | maintainer-script | permanent | the component store is damaged | "
    + _DISM,
    "80508007 | ERR_MP_NO_MEMORY | maintainer-script | permanent | Defender has not enough memory",
    "8050800C | ERR_MP_BAD_INPUT_DATA | maintainer-script | permanent | Defender could not use the definitions",
    "80508020 | ERR_MP_BAD_CONFIGURATION | maintainer-script | permanent | Defender's engine is not set up properly",
    "80092003 | CRYPT_E_FILE_ERROR | failed | permanent | a signature could not be read",
    "80096004 | TRUST_E_CERT_SIGNATURE | refused | permanent | the signature of a file is not valid",
    "800B0109 | CERT_E_UNTRUSTEDROOT | refused | configuration | the signature's root certificate is not trusted",
    "800F0805 | CBS_E_INVALID_PACKAGE | failed | permanent | the package is not valid",
    "800F081E | CBS_E_NOT_APPLICABLE | refused | permanent | the package does not apply to this machine",
    "800F081F | CBS_E_SOURCE_MISSING | maintainer-script | permanent | source files of a component are missing | "
    + _DISM,
    "800F0821 | CBS_E_ABORT | interrupted | permanent | Windows servicing stopped it",
    "800F0823 | CBS_E_NEW_SERVICING_STACK_REQUIRED | refused | permanent | a newer servicing stack has to be installed"
    " first",
    "800F0825 | CBS_E_CANNOT_UNINSTALL | refused | permanent | the package can't be removed",
    "800F0831 | CBS_E_STORE_CORRUPTION | maintainer-script | permanent | a package is missing in the component store | "
    + _DISM,
    "800F0845 | CBS_E_INCONSISTENT_STATE | maintainer-script | permanent | a servicing state is inconsistent | "
    + _DISM,
    "800F0900 | CBS_E_XML_PARSER_FAILURE | maintainer-script | permanent | a package's description is damaged | "
    + _DISM,
    "800F0902 | CBS_E_PENDING_UPDATES | lock | reboot | other updates wait for a reboot",
    "800F0920 | CBS_E_HANG_DETECTED | maintainer-script | permanent | Windows servicing did not go on",
    "800F0922 | CBS_E_INSTALLERS_FAILED | maintainer-script | permanent | a part of the update failed | check the space"
    " on the system-reserved or EFI partition",
    "800F0923 | CBS_E_INCOMPATIBLE_DRIVER | refused | permanent | a driver or a program is not compatible",
    "800F0982 | PSFX_E_MATCHING_COMPONENT_NOT_FOUND | maintainer-script | permanent | a component is missing | "
    + _DISM,
    "800F0984 | PSFX_E_MATCHING_BINARY_MISSING | maintainer-script | permanent | a file of a component is missing | "
    + _DISM,
    "800F0986 | PSFX_E_APPLY_FORWARD_DELTA_FAILED | maintainer-script | permanent | a file could not be updated | "
    + _DISM,
    "800F0988 | PSFX_E_INVALID_DELTA_COMBINATION | maintainer-script | permanent | files of updates do not match"
    " | dism /online /cleanup-image /startcomponentcleanup",
    "800F0991 | PSFX_E_MISSING_PAYLOAD_FILE | maintainer-script | permanent | a file of the update is missing | "
    + _DISM,
)

ROWS: Final = (*_AGENT, *_SYSTEM)

DEFENDER_NAME: Final = "KB2267602"
"""The definitions of Microsoft Defender Antivirus. Their number never changes."""
DEFENDER_REMEDY: Final = (
    'run "%ProgramFiles%\\Windows Defender\\MpCmdRun.exe" -SignatureUpdate as an administrator, which checks for new'
    " security intelligence updates"
)
"""As in Microsoft's "Configure and manage Microsoft Defender Antivirus with the mpcmdrun.exe command-line tool"."""
DEFENDER_CODES: Final = (
    0x80070643,
    0x8024200B,
    0x8024200D,
    0x80240022,
    0x80240034,
    0x8024402C,
    0x80072EE2,
    0x80072EE7,
    0x80072EFD,
    0x80508007,
    0x8050800C,
    0x80508020,
)
"""What fails with these: Defender's own tool also asks other sources than Windows Update."""


class RetryClass(StrEnum):
    """What can help against an error."""

    DONE = "done"  # no error
    TRANSIENT = "transient"  # it may pass by itself: a download is repeated, an installation never is
    REBOOT = "reboot"  # first a reboot
    CONFIGURATION = "configuration"  # the machine's settings, its proxy or its WSUS forbid or prevent it
    PERMANENT = "permanent"  # somebody has to repair something


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What is known of an error code."""

    code: int  # without a sign
    name: str  # "" when the code is unknown
    cause: FailureCause
    retry: RetryClass
    meaning: str
    remedy: str = ""  # "" when none is known

    @property
    def text(self) -> str:
        """Return the code with its name, meaning and remedy, in one line."""
        return f"{format_code(self.code)}{' ' if self.name else ''}{self.explanation}"

    @property
    def explanation(self) -> str:
        """Return the text without the code."""
        return f"{self.name}: {self.meaning}{f' ({self.remedy})' if self.remedy else ''}"


def _parse_row(row: str) -> ErrorCode:
    code, name, cause, retry, meaning, *remedy = (part.strip() for part in row.split("|"))
    return ErrorCode(int(code, 16), name, FailureCause(cause), RetryClass(retry), meaning, *remedy)


ERROR_CODES: Final[Mapping[int, ErrorCode]] = {error_code.code: error_code for error_code in map(_parse_row, ROWS)}

_UNKNOWN_FACILITIES: Final[Mapping[int, tuple[FailureCause, RetryClass, str]]] = {
    0x80240000: (FailureCause.FAILED, RetryClass.PERMANENT, "an error of the Windows Update Agent"),
    0x80242000: (FailureCause.SCRIPT, RetryClass.PERMANENT, "an error of an update's installer"),
    0x80244000: (FailureCause.FETCH, RetryClass.TRANSIENT, "an error in the exchange with the update server"),
    0x80245000: (FailureCause.FETCH, RetryClass.CONFIGURATION, "an error in finding the update server"),
    0x80246000: (FailureCause.FETCH, RetryClass.TRANSIENT, "an error of the download"),
    0x80248000: (FailureCause.FAILED, RetryClass.PERMANENT, "an error of the agent's own data"),
    0x8024A000: (FailureCause.FAILED, RetryClass.CONFIGURATION, "an error of Automatic Updates"),
    0x80072000: (FailureCause.FETCH, RetryClass.TRANSIENT, "a network error"),
    0x80508000: (FailureCause.SCRIPT, RetryClass.PERMANENT, "an error of Microsoft Defender"),
    0x800F0000: (FailureCause.SCRIPT, RetryClass.PERMANENT, "an error of Windows servicing"),
}
"""What the upper 20 bits of a code tell, when the code itself is unknown."""


def format_code(code: int) -> str:
    """Return a code as documents write it: 0x80240022."""
    return f"0x{code & 0xFFFFFFFF:08X}"


def explain_code(code: int) -> ErrorCode:
    """Return what is known of a code, with or without its sign."""
    code &= 0xFFFFFFFF
    if code in ERROR_CODES:
        return ERROR_CODES[code]
    cause, retry, meaning = _UNKNOWN_FACILITIES.get(
        code & 0xFFFFF000, (FailureCause.FAILED, RetryClass.PERMANENT, "an error that is not in fleetpatch's table")
    )
    if code < 0x80000000:  # the first bit says whether it is an error
        cause, retry, meaning = FailureCause.FAILED, RetryClass.DONE, "no error"
    return ErrorCode(code, "", cause, retry, meaning, "look it up in Microsoft's list of Windows Update error codes")


def build_job_table() -> tuple[str, ...]:
    """Return the table as the job's script reads it: "CODE|CAUSE|RETRY|TEXT", also for the unknown codes of a facility.

    The code of a facility is written with an "x" in place of its last digits ("0x80244xxx"). A line that begins
    with the name of an update ("KB2267602:0x80070643") is for that one.
    """

    def build_line(error_code: ErrorCode) -> str:
        return f"{format_code(error_code.code)}|{error_code.cause}|{error_code.retry}|{error_code.explanation}"

    facilities = (
        f"{format_code(code)[:-3]}xxx|{cause}|{retry}|: {meaning}"
        for code, (cause, retry, meaning) in _UNKNOWN_FACILITIES.items()
    )
    defender = (replace(explain_code(code), remedy=DEFENDER_REMEDY) for code in DEFENDER_CODES)
    return (
        *map(build_line, ERROR_CODES.values()),
        *facilities,
        *(f"{DEFENDER_NAME}:{build_line(error_code)}" for error_code in defender),
    )
