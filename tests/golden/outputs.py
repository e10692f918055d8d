"""Where outputs go: into a folder, or beside those of the repository."""

import csv
import io
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from tests.golden.comparison import compare_texts, read_files
from tests.golden.normalization import normalize
from tests.golden.page_text import read_page_text

ACCEPTED: Final = Path(__file__).parents[1] / "data/golden"
TAKE_VARIABLE: Final = "FLEETPATCH_GOLDEN_TAKE"
"""The folder to write outputs to. Without it they are compared with ``ACCEPTED``."""


@dataclass
class Outputs:
    """The outputs of one group.

    Attributes:
        group: a folder's name.
        folder: the temporary folder of the fleet, which outputs may name.
        texts: the outputs by the names of their files.
    """

    group: str
    folder: Path
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        """Keep an output."""
        file = re.sub(r"[^A-Za-z0-9_.=-]+", "_", name).strip("_")[:110] or "overview"
        assert file not in self.texts, file
        self.texts[file] = normalize(text, str(self.folder))

    def add_json(self, name: str, text: str) -> None:
        """Keep a JSON document, a value on each line."""
        self.add(name, json.dumps(json.loads(text), indent=1, ensure_ascii=False))

    def add_file(self, name: str, content: bytes) -> None:
        """Keep a file: the text of a page, a JSON document, the types and first rows of a Parquet file, or text."""
        if name.endswith(".parquet"):
            self.add(name, _read_parquet(content))
        elif name.endswith(".html"):
            self.add(name, read_page_text(content.decode()))
        elif name.endswith(".json"):
            self.add_json(name, content.decode())
        else:
            self.add(name, content.decode())

    def finish(self) -> None:
        """Write the outputs, or compare them."""
        taken = os.environ.get(TAKE_VARIABLE)
        if taken is not None:
            self._write(Path(taken) / self.group)
            return
        diff = compare_texts(read_files(ACCEPTED / self.group), self.texts)
        assert not diff, f"{diff}\nIf this is meant: python -m tests.golden take --accept"

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        for name, text in self.texts.items():
            (folder / name).write_text(text, encoding="utf-8")


def _read_parquet(content: bytes) -> str:
    table = pq.read_table(io.BytesIO(content))
    text = io.StringIO()
    text.write(f"{table.schema.remove_metadata()}\n")
    csv.writer(text).writerows(row.values() for row in table.slice(0, 20).to_pylist())
    return text.getvalue()
