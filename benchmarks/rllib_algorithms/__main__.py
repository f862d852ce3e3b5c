"""PPO on CartPole-v1 with SFPO's update, against PPO without it.

How to run this script
----------------------
`python -m benchmarks.rllib_algorithms`

Each variant is tried at every learning rate on the grid seeds, then trained on other seeds at its
own best rate and at plain PPO's best rate. An interrupted benchmark goes on where it was.

To see whether it runs, in under two minutes:
`python -m benchmarks.rllib_algorithms --smoke`
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from itertools import product
from pathlib import Path

from benchmarks.common import environment_record, write_json
from benchmarks.pool import run_all, workers
from benchmarks.rllib_algorithms.plot import plot
from benchmarks.rllib_algorithms.runs import BASELINE, VARIANTS, Curve, Run, Settings
from benchmarks.rllib_algorithms.summary import best_lr, compare, table

RESULTS = Path(__file__).parent / "results"
LRS = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
SMOKE_LRS = [1e-3, 3e-3]
SMOKE_RESULTS = Path("runs/rllib_algorithms_smoke")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; `--smoke` only changes defaults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="few, short runs")
    smoke = parser.parse_known_args(argv)[0].smoke
    add = parser.add_argument
    add("--output", type=Path, default=SMOKE_RESULTS if smoke else RESULTS)
    add("--iterations", type=int, default=2 if smoke else Settings.iterations)
    add("--lrs", type=float, nargs="+", default=SMOKE_LRS if smoke else LRS)
    add("--grid-seeds", type=int, nargs="+", default=[101] if smoke else [101, 102])
    add("--seeds", type=int, nargs="+", default=[1] if smoke else [1, 2, 3, 4, 5])
    add("--target", type=float, default=30.0 if smoke else 400.0, help="return to reach")
    add("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    if set(args.seeds) & set(args.grid_seeds):
        parser.error("--seeds: the rates were chosen on some of them (--grid-seeds)")
    return args


def benchmark(args: argparse.Namespace, executor: Executor) -> None:
    """Runs all, and writes results.json and results.png."""
    settings = Settings(iterations=args.iterations)
    folder = args.output / "runs"
    grid = _curves(
        [
            Run(variant, lr, seed, settings)
            for variant, lr, seed in product(VARIANTS, args.lrs, args.grid_seeds)
        ],
        folder,
        executor,
        "grid",
    )
    best = {variant: best_lr(grid, variant, args.target) for variant in VARIANTS}
    for variant, lr in best.items():
        if lr in (min(args.lrs), max(args.lrs)):
            print(f"{variant}: its best rate {lr:g} is at the edge of the grid")
    rates = {
        "own_best_lr": best,
        "ppo_best_lr": dict.fromkeys(VARIANTS, best[BASELINE]),
    }
    chosen = sorted({pair for lrs in rates.values() for pair in lrs.items()})
    runs = [Run(variant, lr, seed, settings) for variant, lr in chosen for seed in args.seeds]
    curves = _curves(runs, folder, executor, "other seeds")
    summary = {name: compare(curves, lrs, args.target) for name, lrs in rates.items()}
    write_json(
        args.output / "results.json",
        {
            "environment": environment_record(),
            "settings": asdict(settings),
            "target_return": args.target,
            "lrs": args.lrs,
            "grid_seeds": args.grid_seeds,
            "seeds": args.seeds,
            "workers": args.workers,
            "summary": summary,
            "runs": [
                {"variant": run.variant, "lr": run.lr, "seed": run.seed, **curve}
                for run, curve in (grid | curves).items()
            ],
        },
    )
    titles = {
        "each at its own best rate": best,
        f"all at PPO's best rate, {best[BASELINE]:g}": rates["ppo_best_lr"],
    }
    plot(args.output / "results.png", curves, titles, settings, args.target)
    for name, rows in summary.items():
        print(f"\n{name}, return {args.target:g}\n{table(rows)}")
    print(f"\n{args.output / 'results.json'}\n{args.output / 'results.png'}")


def _curves(runs: Sequence[Run], folder: Path, executor: Executor, stage: str) -> dict[Run, Curve]:
    results = run_all([run.job() for run in runs], folder, executor, stage)
    return {run: result["curve"] for run, result in zip(runs, results, strict=True)}


def main() -> None:
    """Runs the benchmark in worker processes."""
    args = parse_args()
    with workers(args.workers) as executor:
        benchmark(args, executor)


if __name__ == "__main__":
    main()
