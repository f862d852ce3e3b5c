"""What runs cost up to a return, and how variants compare with plain PPO."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.rllib_algorithms.runs import BASELINE, Curve, Run
from sfpo_rllib.statistics import bootstrap_interval

COSTS = ("env_steps", "gradient_steps", "wall_s", "cpu_s")

Curves = Mapping[Run, Curve]


def first_reached(curve: Curve, target: float) -> int | None:
    """Index of the first iteration with at least that return, None if there is none."""
    returns = enumerate(curve["episode_return"])
    return next((index for index, value in returns if value >= target), None)


def cost_to_return(curve: Curve, cost: str, target: float) -> float:
    """What the curve's column `cost` stands at then; all of it if the return is never reached."""
    index = first_reached(curve, target)
    return curve[cost][-1 if index is None else index]


def best_lr(curves: Curves, variant: str, target: float) -> float:
    """The variant's rate that takes the fewest environment steps, mean over its seeds.

    Rates that are equal in that, as those that never get there, are told apart by the mean return
    of all iterations.
    """

    def score(lr: float) -> tuple[float, float]:
        tried = [curve for run, curve in curves.items() if (run.variant, run.lr) == (variant, lr)]
        steps = sum(cost_to_return(curve, "env_steps", target) for curve in tried) / len(tried)
        returns = [value for curve in tried for value in curve["episode_return"]]
        return -steps, sum(returns) / len(returns)

    return max({run.lr for run in curves if run.variant == variant}, key=score)


def compare(curves: Curves, lrs: Mapping[str, float], target: float) -> dict[str, Any]:
    """Medians of each variant at its rate and its ratios to plain PPO, with 95% intervals.

    Args:
        curves: Of runs with the same seeds for each variant.
        lrs: Rate by variant; BASELINE is one of them.
        target: Return whose cost is compared.

    Returns:
        By variant: `lr`, `num_runs`, `num_reached`, each measure's median, interval and values a
        seed, and `ratio`: the median over seeds of cost(variant) / cost(plain), the same seed.
    """
    values = {variant: _measures(curves, variant, lr, target) for variant, lr in lrs.items()}
    return {
        variant: {
            "lr": lr,
            "num_runs": len(values[variant]["final_return"]),
            "num_reached": sum(
                first_reached(curve, target) is not None
                for curve in at_rate(curves, variant, lr).values()
            ),
            **{name: _statistics(column) for name, column in values[variant].items()},
            "ratio": {
                cost: _statistics(_ratios(values[variant][cost], values[BASELINE][cost]))
                for cost in COSTS
            },
        }
        for variant, lr in lrs.items()
    }


def at_rate(curves: Curves, variant: str, lr: float) -> dict[int, Curve]:
    """The variant's curves at that rate by seed, in the order of seeds."""
    found = {run.seed: c for run, c in curves.items() if (run.variant, run.lr) == (variant, lr)}
    return dict(sorted(found.items()))


def _measures(curves: Curves, variant: str, lr: float, target: float) -> dict[str, list[float]]:
    chosen = at_rate(curves, variant, lr).values()
    costs = {cost: [cost_to_return(curve, cost, target) for curve in chosen] for cost in COSTS}
    return {**costs, "final_return": [curve["episode_return"][-1] for curve in chosen]}


def _ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    return [value / base for value, base in zip(values, baseline, strict=True)]


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    digits = 4
    return {
        "median": round(median(values), digits),
        "interval": [round(bound, digits) for bound in bootstrap_interval(values)],
        "values": [round(value, digits) for value in values],
    }


def table(summary: Mapping[str, Any]) -> str:
    """The comparison as lines of text."""
    lines = [
        f"{'':16} {'lr':>7} {'reached':>8}  {'env steps to it':24} {'ratio':20} "
        f"{'gradient steps':>14} {'cpu s':>6} {'final return':>13}"
    ]
    for variant, row in summary.items():
        lines.append(
            f"{variant:16} {row['lr']:7g} {row['num_reached']:>5}/{row['num_runs']:<2}  "
            f"{_estimate(row['env_steps'], '.0f'):24} "
            f"{_estimate(row['ratio']['env_steps'], '.2f'):20} "
            f"{row['gradient_steps']['median']:14.0f} {row['cpu_s']['median']:6.1f} "
            f"{row['final_return']['median']:13.0f}"
        )
    return "\n".join(lines)


def _estimate(statistics: Mapping[str, Any], digits: str) -> str:
    low, high = statistics["interval"]
    return f"{statistics['median']:{digits}} [{low:{digits}}, {high:{digits}}]"
