"""The core where ray and the language-model libraries are not installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

HIDDEN = ("ray", "transformers", "vllm", "gymnasium")

# Imported by the interpreter at its start, from PYTHONPATH.
SITECUSTOMIZE = f"""
import sys

class Hide:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide)
"""


@pytest.fixture
def without_them(tmp_path: Path) -> dict[str, str]:
    """The environment variables of a Python that cannot import `HIDDEN`."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_the_core_imports_and_it_is_said_what_is_missing(without_them):
    code = """
import sys
for name in ("ray", "transformers", "vllm", "gymnasium"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} is there, so this test shows nothing")

import sfpo_rllib
import sfpo_rllib.core
assert not {"ray", "transformers", "vllm", "gymnasium"} & set(sys.modules)

for name in ("SFPO", "SFPOConfig", "GRPO", "GRPOConfig", "with_sfpo"):
    try:
        getattr(sfpo_rllib, name)
    except ImportError as error:
        message = str(error)
        assert name in message and "'ray'" in message, message
    else:
        raise AssertionError(f"{name} could be imported")
try:
    from sfpo_rllib import SFPO
except ImportError as error:
    assert "'ray'" in str(error), error
else:
    raise AssertionError("SFPO could be imported")
assert not hasattr(sfpo_rllib, "PPO")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=without_them, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(said) == 1  # of why Tune does not know the algorithms
    assert '"SFPO" and "GRPO" are not registered with Ray Tune' in said[0]
    assert "No module named 'ray'" in said[0]


def test_the_tests_of_the_core_pass(without_them):
    tests = Path(__file__).parent
    files = [str(tests / f"test_{name}.py") for name in ("update_rules", "updater", "step_guard")]
    options = ["-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        env=without_them,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 150, done.stdout
