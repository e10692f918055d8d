"""The temporary folder of a worker."""

import atexit
import shutil
import tempfile


def use_own_temporary_folder() -> None:
    """Let this process make its temporary files in a new folder, which only its user can open. Its end removes it.

    Prefect 3.8.8 makes ``runner_storage`` in the temporary folder of the host (prefect/runner/runner.py), the only name
    there that it doesn't choose at random. The user who made it first has it alone, and can replace what others put
    there. The processes that this one starts use the temporary folder of the host (`TMPDIR`), as before.
    """
    tempfile.tempdir = tempfile.mkdtemp(prefix="fleetpatch-worker-")
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)
