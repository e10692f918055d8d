"""What real hosts mix into a program's output, and how it arrives: in odd pieces, with other line ends."""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PROGRESS = (
    b"#< CLIXML\r\n",
    b'<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04"><Obj S="progress" RefId="0">'
    b'<TN RefId="0"><T>System.Management.Automation.PSCustomObject</T><T>System.Object</T></TN><MS><I64 N="SourceId">1'
    b'</I64><PR N="Record"><AV>Preparing modules for first use.</AV><AI>0</AI><Nil /><PI>-1</PI><PC>-1</PC><T>Completed'
    b"</T><SR>-1</SR><SD> </SD></PR></MS></Obj></Objs>",
)
"""What powershell.exe writes to a redirected stderr before a script has its say."""


@dataclass(frozen=True)
class Noise:
    """How noisy a host is.

    Attributes:
        progress: whether PowerShell tells of its progress on stderr.
        line_ends: whether lines end with CR LF.
        odd_pieces: whether output comes in pieces that know nothing of lines and characters.
    """

    progress: bool = True
    line_ends: bool = True
    odd_pieces: bool = True

    def before(self, arguments: Sequence[str]) -> tuple[bytes, ...]:
        """What is on stderr before the program does anything."""
        shell = arguments[0].lower().removesuffix(".exe").endswith("powershell")
        encoded = any(re.fullmatch(r"[-/]e[a-z]*", each, re.IGNORECASE) for each in arguments[1:])
        return PROGRESS if self.progress and shell and encoded else ()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Output as it arrives. How it is cut depends on what it is, so that a test that fails does so again."""
        if self.line_ends:
            data = re.sub(rb"(?<!\r)\n", b"\r\n", data)
        if not self.odd_pieces:
            yield data
            return
        seed = zlib.crc32(data)
        while data:
            seed = (seed * 1103515245 + 12345) % 2**31
            size = 1 + (seed >> 8) % (7 if seed % 5 == 0 else 4096)
            yield data[:size]
            data = data[size:]


QUIET = Noise(progress=False, line_ends=False, odd_pieces=False)
