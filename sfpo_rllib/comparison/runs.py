"""Two runs, or two sets of runs by seed: best and last accuracy, and the way to a target."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sfpo_rllib.comparison.curves import BATCHES, COSTS, HELD_OUT, Curve
from sfpo_rllib.statistics import by_seed, cost_to_reach

Pair = tuple[Curve, Curve]


def paired(first: Sequence[Curve], second: Sequence[Curve]) -> list[Pair]:
    """Runs of the same seed.

    Raises:
        ValueError: If a side has two runs of one seed, or several runs and none has a partner.
    """
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    sides = [_by_seed(first), _by_seed(second)]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    if not seeds:
        there = [sorted(side) for side in sides]
        raise ValueError(
            f"runs are paired by seed, and no seed is on both sides: {there[0]} and {there[1]}"
        )
    return [(sides[0][seed], sides[1][seed]) for seed in seeds]


def _by_seed(curves: Sequence[Curve]) -> dict[int, Curve]:
    result: dict[int, Curve] = {}
    for curve in curves:
        if curve.seed is None:
            raise ValueError(f"{curve.name}: runs are paired by seed, and it has none")
        if curve.seed in result:
            raise ValueError(
                f"{curve.name}: has the seed {curve.seed}, as {result[curve.seed].name} has; the "
                "runs of a side must differ in their seeds alone"
            )
        result[curve.seed] = curve
    return result


def measure_of(pairs: Sequence[Pair]) -> str:
    """What is compared: held-out accuracy, if all have it.

    Raises:
        ValueError: If nothing was measured of all of them.
    """
    curves = [curve for pair in pairs for curve in pair]
    for measure in (HELD_OUT, BATCHES):
        if all(curve.has(measure) for curve in curves):
            return measure
    raise ValueError("there is neither held-out nor training accuracy of all of the runs")


def compare_runs(
    first: Sequence[Curve], second: Sequence[Curve], target: float | None = None
) -> dict[str, Any]:
    """The second runs against the first, by seed.

    Args:
        first: Runs, of different seeds.
        second: Runs.
        target: An accuracy. None: of each pair the lower one of their best accuracies, which both
            reach.

    Returns:
        `measure`, what the accuracy is of; `best_accuracy` and `final_accuracy`, smoothed: the
        means of both sides and the difference; `to_target`, by cost: the means over the pairs of
        which both get there, and the ratio of the second to the first (a geometric mean).

    Raises:
        ValueError: If they cannot be paired.
    """
    pairs = paired(first, second)
    measure = measure_of(pairs)

    def curve(run: Curve) -> np.ndarray:
        points = run.points(measure, "rollouts")
        if points is None:
            raise ValueError(f"{run.name}: does not say how many rollouts it had")
        return points[1]

    bests = [(float(curve(a).max()), float(curve(b).max())) for a, b in pairs]
    targets = [min(best) if target is None else target for best in bests]
    return {
        "measure": measure,
        "seeds": [a.seed for a, _ in pairs],
        "num_unpaired": len(first) + len(second) - 2 * len(pairs),
        "best_accuracy": _difference(bests),
        "final_accuracy": _difference(
            [(float(curve(a)[-1]), float(curve(b)[-1])) for a, b in pairs]
        ),
        "targets": targets,
        "num_reached": [
            sum(best[side] >= goal for best, goal in zip(bests, targets, strict=True))
            for side in (0, 1)
        ],
        "to_target": {cost: _costs(pairs, targets, measure, cost) for cost in COSTS},
    }


def _difference(values: Sequence[tuple[float, float]]) -> dict[str, Any]:
    sides = np.array(values)
    return {
        "first": float(sides[:, 0].mean()),
        "second": float(sides[:, 1].mean()),
        "difference": by_seed(sides[:, 1] - sides[:, 0]).as_json(),
    }


def _costs(
    pairs: Sequence[Pair], targets: Sequence[float], measure: str, cost: str
) -> dict[str, Any] | None:
    """What both sides spend; None if no pair gets there, or it is not known what was spent."""
    spent = []
    for pair, target in zip(pairs, targets, strict=True):
        points = [run.points(measure, cost) for run in pair]
        found = [p and cost_to_reach(p[1], p[0].tolist(), target) for p in points]
        if found[0] is not None and found[1] is not None:
            spent.append((found[0], found[1]))
    if not spent:
        return None
    sides = np.array(spent, dtype=float)
    result: dict[str, Any] = {
        "first": float(sides[:, 0].mean()),
        "second": float(sides[:, 1].mean()),
        "num_pairs": len(spent),
        "ratio": None,
    }
    if (sides > 0).all():
        result["ratio"] = _exponentials(by_seed(np.log(sides[:, 1] / sides[:, 0])).as_json())
    return result


def _exponentials(of_logs: dict[str, Any]) -> dict[str, Any]:
    def exp(x: float | None) -> float | None:
        return None if x is None else float(np.exp(x))

    return {
        **of_logs,
        "value": exp(of_logs["value"]),
        "interval": [exp(bound) for bound in of_logs["interval"]],
    }
