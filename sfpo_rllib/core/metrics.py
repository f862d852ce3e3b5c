"""Metrics of micro-batches on their way to those of a pass over all learners.

A metric is a sum over the tokens that count, and is reported as their mean; or, if its name ends
in `_max`, a maximum. So a pass has the same metrics however it was cut up. All micro-batches of
all learners must have metrics of the same names.
"""

import torch

Metrics = dict[str, torch.Tensor]  # scalars


def accumulate(totals: Metrics, metrics: Metrics) -> None:
    """Adds the metrics of a further micro-batch to `totals`."""
    for name, value in metrics.items():
        if name in totals:
            add = torch.maximum if _is_max(name) else torch.add
            value = add(totals[name], value)
        totals[name] = value


def over_learners(totals: Metrics, *, distributed: bool) -> dict[str, float]:
    """The totals of all learners, in two all-reduces: sums and maxima."""
    result: dict[str, float] = {}
    for maxima in (False, True):
        names = sorted(name for name in totals if _is_max(name) == maxima)
        if not names:
            continue
        values = torch.stack([totals[name].double() for name in names])
        if distributed:
            reduce_op = torch.distributed.ReduceOp
            torch.distributed.all_reduce(values, reduce_op.MAX if maxima else reduce_op.SUM)
        result.update(zip(names, values.tolist(), strict=True))
    return result


def per_token(totals: dict[str, float]) -> dict[str, float]:
    """Means over the `num_tokens` tokens that count, at least one, which is left out; maxima."""
    num_tokens = totals["num_tokens"]
    return {
        name: value if _is_max(name) else value / num_tokens
        for name, value in totals.items()
        if name != "num_tokens"
    }


def _is_max(name: str) -> bool:
    return name.endswith("_max")
