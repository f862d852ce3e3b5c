"""Steps whose gradient is not finite."""

import errno
import math
import os
import re
from pathlib import Path

import pytest
import torch

from sfpo_rllib.core.step_guard import MAX_FILES, StepGuard

BAD = [math.nan, math.inf]


def parameters() -> list[tuple[str, torch.Tensor]]:
    good, bad, untrained = (torch.zeros(2, requires_grad=True) for _ in range(3))
    good.grad, bad.grad = torch.ones(2), torch.tensor([1.0, math.nan])
    return [("good", good), ("bad", bad), ("untrained", untrained)]


def allows(guard: StepGuard, norm: float) -> bool:
    return guard.allows(norm, parameters=parameters(), batch=lambda: [{"ids": torch.arange(3)}])


@pytest.mark.parametrize("norm", BAD)
def test_only_steps_of_a_finite_gradient_are_allowed_and_the_others_counted(norm):
    guard = StepGuard(2)
    answers = [allows(guard, n) for n in (1.0, norm, 0.0, norm, norm, 3.0)]
    assert answers == [True, False, True, False, False, True]
    assert (guard.skipped, guard.in_a_row) == (3, 0)


@pytest.mark.parametrize("limit", [0, 2])
def test_too_many_in_a_row_end_it_with_the_batch_in_a_file(limit, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    guard = StepGuard(limit)
    for _ in range(limit):
        allows(guard, math.nan)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FloatingPointError) as error:
        allows(guard, math.nan)
    message = str(error.value)
    assert message.startswith(f"max_skipped_steps={limit}: {limit + 1} optimizer steps in a row")
    assert "in 1 parameters, e.g. ['bad']" in message
    saved = torch.load(re.search(r"saved in (\S+)$", message)[1])
    assert saved["parameters"] == ["bad"]
    assert torch.equal(saved["batch"][0]["ids"], torch.arange(3))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named_at_once(value):
    named = parameters()
    with torch.no_grad():
        named[0][1][1] = value
    guard = StepGuard(10)
    with pytest.raises(FloatingPointError, match=r"weights: 1 of 3 .* \['good'\]; go back to"):
        guard.allows(math.nan, parameters=named, batch=list)


def test_the_count_in_a_row_goes_on_across_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    guard, restored = StepGuard(2), StepGuard(2)
    assert [allows(guard, n) for n in (1.0, math.nan, math.nan)] == [True, False, False]
    restored.load_state_dict(guard.state_dict())
    assert (restored.skipped, restored.in_a_row) == (2, 2)
    with pytest.raises(FloatingPointError, match="3 optimizer steps in a row"):
        allows(restored, math.nan)


def test_batches_that_are_saved_do_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "skipped_batch.txt").write_text("somebody else's")
    for i in range(MAX_FILES + 3):
        with pytest.raises(FloatingPointError) as error:
            allows(StepGuard(0), math.nan)
        newest = Path(re.search(r"saved in (\S+)$", str(error.value))[1])
        os.utime(newest, (i, i))
    assert len(list(tmp_path.glob("skipped_batch_*.pt"))) == MAX_FILES
    assert newest.exists()
    assert (tmp_path / "skipped_batch.txt").exists()


def test_a_full_disk_does_not_hide_why_training_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FloatingPointError, match=r"could not be saved.*No space left") as error:
        allows(StepGuard(0), math.nan)
    assert "1 optimizer steps in a row" in str(error.value)
    assert not list(tmp_path.iterdir())
