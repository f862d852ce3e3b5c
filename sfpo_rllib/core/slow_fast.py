"""The three stages of SFPO over any parameters and any pass (arXiv 2510.04072)."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch

from sfpo_rllib.core.anchor import Reposition, anchored
from sfpo_rllib.core.checks import integer, number, raise_problems, value_problems

PassResult = TypeVar("PassResult")


def slow_fast_update(
    parameters: Iterable[torch.Tensor],
    run_pass: Callable[[], PassResult],
    *,
    fast_steps: int = 3,
    alpha: float = 0.8,
    run_slow_pass: Callable[[], PassResult] | None = None,
    on_reposition: Callable[[Reposition], None] | None = None,
    snapshot_device: torch.device | str | None = None,
) -> list[PassResult]:
    """Updates `parameters` by one SFPO step: fast trajectory, reposition, slow correction.

    Stage I runs `run_pass` `fast_steps` times from theta^{s,0}. Stage II moves the parameters
    back to theta^{s,0} + alpha * (theta^{s,K} - theta^{s,0}). Stage III runs `run_pass` once more
    from there. theta^{s,0} are what Lookahead calls the slow weights. Optimizer state is not
    rewound: it belongs to `run_pass` and runs through.

    Memory: one copy of the parameters, and no other temporary larger than one parameter.

    Args:
        parameters: The floating-point tensors that `run_pass` trains, updated in place. Dtypes
            and devices may differ, and DTensors may stand beside plain tensors. A tensor given
            twice (tied weights) counts once.
        run_pass: One pass over the batch, that is one or more optimizer steps.
        fast_steps: K >= 1, the number of fast passes.
        alpha: In [0, 1]. 0 is the plain algorithm: the fast passes would be undone, so only one
            pass runs, the slow one. 1 is plain reuse of the batch for K + 1 passes.
        run_slow_pass: The pass of stage III, where that is another than `run_pass`.
        on_reposition: Called once with the measures of stage II; not called if alpha is 0.
            Without it the norms are not computed.
        snapshot_device: Where the copy of the parameters is held; None: where they are.

    Returns:
        What the passes returned, in order: `fast_steps + 1` results, or one if alpha is 0.

    Raises:
        ValueError: If `fast_steps`, `alpha` or a parameter's dtype is out of range.
        BaseException: Whatever a pass or `on_reposition` raises, after the parameters have been
            put back to theta^{s,0}.
    """
    raise_problems(slow_fast_problems(fast_steps, alpha))
    run_slow_pass = run_slow_pass or run_pass
    with anchored(parameters, device=snapshot_device) as start:
        if alpha == 0.0:
            return [run_slow_pass()]
        results = [run_pass() for _ in range(fast_steps)]
        if on_reposition is not None:
            on_reposition(start.measure(alpha))
        start.reposition(alpha)
        results.append(run_slow_pass())
        return results


def slow_fast_problems(fast_steps: Any, alpha: Any, *, least_steps: int = 1) -> list[str]:
    """What is wrong with K and alpha, each as `field=value: what would be right`."""
    kinds = {"fast_steps": integer(least_steps), "alpha": number(least=0.0, most=1.0)}
    return value_problems({"fast_steps": fast_steps, "alpha": alpha}, kinds)
