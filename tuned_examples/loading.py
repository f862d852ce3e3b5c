"""To be imported first: says that an example is being loaded, which takes seconds, while it is.

Standard library only. Where the example is imported instead of run it says nothing.
"""

import sys
import threading
import time
from pathlib import Path

EVERY_S = 8.0

_loaded = threading.Event()


def loaded() -> None:
    """All is imported."""
    _loaded.set()


def _watch(start: float) -> None:
    while not _loaded.wait(EVERY_S):
        print(f"      loading: {time.monotonic() - start:.0f} s", flush=True)


_script = Path(sys.argv[0]).resolve()
if _script.is_file() and _script.parent == Path(__file__).resolve().parent:
    print("loading ray, torch and transformers", flush=True)
    threading.Thread(target=_watch, args=(time.monotonic(),), daemon=True).start()
