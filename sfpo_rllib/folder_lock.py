"""A folder that one process at a time writes to."""

import fcntl
from pathlib import Path
from typing import Self


class FolderInUse(Exception):
    """Another process holds the folder's lock."""


class FolderLock:
    """Holds a folder until it is released, or this process ends, however it does."""

    def __init__(self, path: Path) -> None:
        """Takes the lock.

        Args:
            path: Of the lock's file, in the folder; it is made if it does not exist, and stays.

        Raises:
            FolderInUse: If another process holds it.
        """
        self._file = open(path, "a")  # noqa: SIM115  (it is held open)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise FolderInUse(f"{path.parent}: another process writes there") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets others have it."""
        self._file.close()
