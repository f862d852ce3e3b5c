"""Runs that were made are kept, and nothing else is taken for one."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pool import Job, load_finished, make_and_keep, run_all


@pytest.fixture
def made() -> list[int]:
    """The seeds of the runs that were made, in order."""
    return []


@pytest.fixture
def job(made: list[int]) -> Callable[..., Job]:
    def train(seed: int) -> dict[str, Any]:
        made.append(seed)
        if seed < 0:
            raise RuntimeError("lost")
        return {"curve": [seed, seed + 1]}

    def make(seed: int, alpha: float = 0.5) -> Job:
        settings = {"run": {"seed": seed, "seeds": (1, 2)}, "alpha": alpha}
        return Job(f"run-{seed}", settings, partial(train, seed))

    return make


def test_finished_runs_are_not_made_again(
    tmp_path: Path, job: Callable[..., Job], made: list[int]
) -> None:
    with ThreadPoolExecutor(1) as executor:
        first = run_all([job(2), job(1)], tmp_path, executor, "first")
        assert made == [2, 1]
        assert [result["curve"] for result in first] == [[2, 3], [1, 2]]
        again = run_all([job(1), job(3), job(2)], tmp_path, executor, "again")
    assert made == [2, 1, 3]
    assert [result["run"]["seed"] for result in again] == [1, 3, 2]
    assert {path.name for path in tmp_path.iterdir()} == {f"run-{seed}.json" for seed in (1, 2, 3)}


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: text[: len(text) // 2]])
def test_a_broken_file_is_no_finished_run(
    damage: Callable[[str], str], tmp_path: Path, job: Callable[..., Job], made: list[int]
) -> None:
    make_and_keep(tmp_path, job(1))
    path = tmp_path / "run-1.json"
    whole = json.loads(path.read_text())
    assert load_finished(tmp_path, job(1)) == whole
    path.write_text(damage(path.read_text()))
    assert load_finished(tmp_path, job(1)) is None
    with ThreadPoolExecutor(1) as executor:
        run_all([job(1)], tmp_path, executor, "again")
    assert made == [1, 1]
    assert load_finished(tmp_path, job(1)) == whole


def test_a_run_of_other_settings_is_refused_and_kept(
    tmp_path: Path, job: Callable[..., Job]
) -> None:
    make_and_keep(tmp_path, job(1))
    with pytest.raises(ValueError, match=r"run-1.json: has alpha=0.5, and 0.8 is wanted"):
        load_finished(tmp_path, job(1, alpha=0.8))
    assert load_finished(tmp_path, job(1)) is not None


def test_a_failed_run_leaves_no_file(tmp_path: Path, job: Callable[..., Job]) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="lost"):
        run_all([job(-1)], tmp_path, executor, "failing")
    assert not list(tmp_path.iterdir())
