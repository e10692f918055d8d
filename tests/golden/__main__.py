"""Take golden outputs, and compare them.

python -m tests.golden take FOLDER            # all outputs of this tree, as text files
python -m tests.golden take --accept          # the smaller set of the repository, tests/data/golden
python -m tests.golden compare BEFORE AFTER   # a diff; exit code 1 if there is one
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.golden.comparison import compare_texts, read_files
from tests.golden.outputs import ACCEPTED, TAKE_VARIABLE


def _take(folder: Path, *, accept: bool) -> int:
    environment = {**os.environ, TAKE_VARIABLE: str(folder)}
    if not accept:
        shutil.rmtree(folder, ignore_errors=True)
    takers = "tests/golden/test_golden.py" if accept else "tests/golden"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "python_files=test_*.py take_*.py", takers]
    return subprocess.run([sys.executable, *words], env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    take = verbs.add_parser("take")
    take.add_argument("folder", nargs="?", type=Path)
    take.add_argument("--accept", action="store_true")
    compare = verbs.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.add_argument("--full", action="store_true", help="a unified diff of JSON documents as well")
    options = parser.parse_args()
    if options.verb == "compare":
        diff = compare_texts(read_files(options.before), read_files(options.after), by_key=not options.full)
        sys.stdout.write(diff)
        return 1 if diff else 0
    if options.accept == (options.folder is not None):
        parser.error("take needs FOLDER or --accept")
    return _take(ACCEPTED if options.accept else options.folder.resolve(), accept=options.accept)


if __name__ == "__main__":
    sys.exit(main())
