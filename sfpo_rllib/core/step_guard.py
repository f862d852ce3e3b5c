"""Optimizer steps whose gradient is not finite: skipped, counted, and after too many the end."""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sfpo_rllib.core.anchor import local

MAX_FILES = 8  # with batches, in the folder for temporary files
_PREFIX, _SUFFIX = "skipped_batch_", ".pt"


class StepGuard:
    """Says of each optimizer step whether it may be taken.

    Its answer depends on nothing but the gradient's norm: learners that share a gradient agree.

    Attributes:
        max_in_a_row: So many skipped steps in a row are borne.
        skipped: Steps skipped so far.
        in_a_row: Those since the last good one.
    """

    def __init__(self, max_in_a_row: int) -> None:
        self.max_in_a_row = max_in_a_row
        self.skipped = 0
        self.in_a_row = 0

    def allows(
        self,
        norm: float,
        *,
        parameters: Iterable[tuple[str, torch.Tensor]],
        batch: Callable[[], Any],
    ) -> bool:
        """Whether a step of that gradient may be taken.

        Args:
            norm: Of the whole gradient, over all learners.
            parameters: Names and parameters, with their gradients.
            batch: Returns what the gradient is of, in host memory, to be saved.

        Raises:
            FloatingPointError: If it may not, and neither might the `max_in_a_row` before it. It
                names a file, to be read by `torch.load`, with the batch and the names of the
                parameters whose gradients are not finite. At once, if parameters themselves are
                not: no later gradient would be.
        """
        if math.isfinite(norm):
            self.in_a_row = 0
            return True
        parameters = list(parameters)
        require_finite({name: local(param) for name, param in parameters})
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row <= self.max_in_a_row:
            return False
        raise FloatingPointError(self._report(norm, parameters, batch))

    def _report(
        self, norm: float, parameters: Iterable[tuple[str, torch.Tensor]], batch: Callable[[], Any]
    ) -> str:
        """Saves what the gradient is of. Returns what happened, and where that is saved."""
        bad = [
            name
            for name, param in parameters
            if param.grad is not None and not torch.isfinite(local(param.grad)).all()
        ]
        what = {"batch": batch(), "grad_norm": norm, "parameters": bad}
        return (
            f"max_skipped_steps={self.max_in_a_row}: {self.in_a_row} optimizer steps in a row had "
            f"a gradient that is not finite (norm {norm}), in {len(bad)} parameters, e.g. "
            f"{bad[:3]}; the last batch {_save(what)}"
        )

    def state_dict(self) -> dict[str, int]:
        """The counters."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from `state_dict()`."""
        self.skipped = int(state["skipped"])
        self.in_a_row = int(state.get("in_a_row", 0))


def require_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Raises a FloatingPointError that names the weights with values that are not finite."""
    bad = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if bad:
        raise FloatingPointError(
            f"weights: {len(bad)} of {len(weights)} hold values that are not finite, e.g. "
            f"{bad[:3]}; go back to an earlier checkpoint, with a lower lr or grad_clip if the "
            "training diverged"
        )


def _save(what: dict[str, Any]) -> str:
    """Saves to a new file, and removes the oldest of more than `MAX_FILES`."""
    path = None
    try:
        handle, path = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX)
        os.close(handle)
        torch.save(what, path)
    except (OSError, RuntimeError) as error:  # what torch raises for a full disk
        if path is not None:
            os.unlink(path)
        return f"could not be saved: {error}"
    changed: dict[Path, float] = {}
    for file in Path(path).parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, or another user's
            changed[file] = file.stat().st_mtime
    for file in sorted(changed, key=lambda file: changed[file])[:-MAX_FILES]:
        with suppress(OSError):
            file.unlink()
    return f"is saved in {path}"
