import subprocess
import sys
from pathlib import Path

import pytest

from sfpo_rllib.folder_lock import FolderInUse, FolderLock

HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_anothers_until_its_holder_ends_however_it_does(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse, match=f"{tmp_path}: another process"):
            FolderLock(path)
        other.kill()
        other.wait()
        with FolderLock(path), pytest.raises(FolderInUse):
            FolderLock(path)
    FolderLock(path).release()
