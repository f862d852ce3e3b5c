"""Workers that have torch before they start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
import ray
from warm_programs import ADDRESS, MODULES, possible


def test_a_worker_has_torch_at_once_and_imports_the_package_on_its_own(ray_cluster: None) -> None:
    if not possible():
        pytest.skip("not here")

    @ray.remote
    def imported() -> list[str]:
        return list(sys.modules)

    names = ray.get(imported.remote())
    assert {"torch", *MODULES} - {"torchvision"} <= set(names)
    assert names.index("torch") < names.index("ray")
    assert not [name for name in names if name.split(".")[0] in ("sfpo_rllib", "sfpo_envs")]


def test_a_worker_starts_as_ever_where_nobody_serves(tmp_path: Path) -> None:
    script = tmp_path / "default_worker.py"  # the name of Ray's
    script.write_text("import sys; print('torch' in sys.modules)")
    environ = os.environ | {ADDRESS: str(tmp_path / "no socket")}
    environ["PYTHONPATH"] = str(Path(__file__).parent / "packages")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
