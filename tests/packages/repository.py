"""Where the repository and what lies beside it is, wherever in `tests/` a test is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"  # real problem sets; tests of them are skipped without
