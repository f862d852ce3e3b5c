"""The three stages of SFPO over any parameters and any pass (arXiv 2510.04072)."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch

PassResult = TypeVar("PassResult")


@dataclass(frozen=True)
class Reposition:
    """What stage II did.

    Attributes:
        displacement_norm: L2 norm of the fast trajectory, |theta^{s,K} - theta^{s,0}|.
        pull_back_norm: L2 norm of the way back, (1 - alpha) * displacement_norm.
    """

    displacement_norm: float
    pull_back_norm: float


def slow_fast_update(
    parameters: Iterable[torch.Tensor],
    run_pass: Callable[[], PassResult],
    *,
    fast_steps: int = 3,
    alpha: float = 0.8,
    on_reposition: Callable[[Reposition], None] | None = None,
) -> list[PassResult]:
    """Updates `parameters` by one SFPO step: fast trajectory, reposition, slow correction.

    Stage I runs `run_pass` `fast_steps` times from theta^{s,0}. Stage II moves the parameters
    back to theta^{s,0} + alpha * (theta^{s,K} - theta^{s,0}). Stage III runs `run_pass` once more
    from there. Optimizer state is not rewound: it belongs to `run_pass` and runs through.

    Memory: one copy of the parameters, and no other temporary larger than one parameter.

    Args:
        parameters: The floating-point tensors that `run_pass` trains, updated in place. Dtypes
            and devices may differ, and DTensors may stand beside plain tensors. A tensor given
            twice (tied weights) counts once.
        run_pass: One pass over the batch, that is one or more optimizer steps.
        fast_steps: K >= 1, the number of fast passes.
        alpha: In [0, 1]. 0 is the plain algorithm: the fast passes would be undone, so only one
            pass runs. 1 is plain reuse of the batch for K + 1 passes.
        on_reposition: Called once with the measures of stage II; not called if alpha is 0.
            Without it the norms are not computed.

    Returns:
        What the passes returned, in order: `fast_steps + 1` results, or one if alpha is 0.

    Raises:
        ValueError: If `fast_steps`, `alpha` or a parameter's dtype is out of range.
        BaseException: Whatever `run_pass` or `on_reposition` raises, after the parameters have
            been put back to theta^{s,0}.
    """
    check_slow_fast(fast_steps=fast_steps, alpha=alpha)
    params = list({id(p): p for p in parameters}.values())
    for param in params:
        if not param.is_floating_point():
            raise ValueError(f"parameters: dtype {param.dtype}, must be floating point")

    start = [p.detach().clone() for p in params]
    try:
        if alpha == 0.0:
            return [run_pass()]
        results = [run_pass() for _ in range(fast_steps)]
        if on_reposition is not None:
            displacement = _distance(params, start)
            on_reposition(Reposition(displacement, (1.0 - alpha) * displacement))
        with torch.no_grad():
            for param, origin in zip(params, start, strict=True):
                param.lerp_(origin, 1.0 - alpha)  # a weight of 0 leaves alpha = 1 exact
        results.append(run_pass())
        return results
    except BaseException:
        with torch.no_grad():
            for param, origin in zip(params, start, strict=True):
                param.copy_(origin)
        raise


def check_slow_fast(*, fast_steps: int, alpha: float) -> None:
    """Raises a ValueError that names the field if K or alpha is out of range."""
    if isinstance(fast_steps, bool) or not isinstance(fast_steps, int) or fast_steps < 1:
        raise ValueError(f"fast_steps={fast_steps!r}: must be an integer >= 1")
    if not isinstance(alpha, int | float) or not 0.0 <= alpha <= 1.0:  # NaN fails the comparison
        raise ValueError(f"alpha={alpha!r}: must be a number in [0, 1]")


@torch.no_grad()
def _distance(params: list[torch.Tensor], origins: list[torch.Tensor]) -> float:
    """L2 distance between two points in parameter space."""
    squared = 0.0
    for param, origin in zip(params, origins, strict=True):
        # float32 at least: the difference of two bf16 weights has few digits as it is.
        dtype = torch.promote_types(param.dtype, torch.float32)
        norm = torch.linalg.vector_norm(param - origin, dtype=dtype)
        if hasattr(norm, "full_tensor"):  # a DTensor's norm is a partial sum until gathered
            norm = norm.full_tensor()
        squared += float(norm) ** 2
    return math.sqrt(squared)
