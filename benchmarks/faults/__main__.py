"""What a run survives, in its long forms.

`python -m benchmarks.faults` makes results/runners.json, driver.json and soak.json; one of these
names as an argument makes that one. `--smoke` is the same in a few minutes. Interrupted, it goes on
with the kills that are missing; finished ones are files under `--runs`. A soak begins anew.
"""

import argparse
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray

from benchmarks.common import environment_record, write_json
from benchmarks.faults.kills import kill_driver, kill_runners, undisturbed_driver
from benchmarks.faults.soak import soak
from benchmarks.faults.training import build_model, start_ray
from benchmarks.pool import Job, Result, load_finished, make_and_keep

HERE = Path(__file__).parent


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__)
    parser.add_argument("part", nargs="?", choices=list(PARTS), help="by default all")
    parser.add_argument("--smoke", action="store_true", help="minutes, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=None, help="finished runs and the model")
    parser.add_argument("--output", type=Path, default=None, help="JSON")
    args = parser.parse_args()
    args.runs = (args.runs or Path("runs") / ("faults_smoke" if args.smoke else "faults")).resolve()
    args.output = args.output or (args.runs if args.smoke else HERE / "results")
    return args


def made(folder: Path, name: str, settings: dict[str, Any], make: Callable[[], Any]) -> Result:
    """The run of this name, made now if it is not kept yet."""
    job = Job(name, settings, make)
    if load_finished(folder, job) is None:
        make_and_keep(folder, job)
    kept = load_finished(folder, job)
    assert kept is not None
    return kept


def runners(runs: Path, model: Path, *, smoke: bool, seed: int) -> dict[str, Any]:
    """10 kills of runners in 10 iterations."""
    settings = {"num_kills": 2 if smoke else 10, "seed": seed}
    start_ray()
    try:
        return dict(made(runs, "runners", settings, partial(kill_runners, model, **settings)))
    finally:
        ray.shutdown()


def driver(runs: Path, model: Path, *, smoke: bool, seed: int) -> dict[str, Any]:
    """20 kills of the driver, each of a run of its own."""
    iterations, num_kills = (8, 1) if smoke else (30, 20)
    settings: dict[str, Any] = {"iterations": iterations}
    expected = made(
        runs,
        "undisturbed",
        settings,
        lambda: undisturbed_driver(runs / "undisturbed", model, iterations),
    )
    rng = random.Random(seed)
    kills = []
    for number in range(num_kills):
        after_s = rng.random() * expected["seconds"]
        name = f"driver_{number:02d}"
        make = partial(
            kill_driver,
            runs / name,
            model,
            iterations,
            after_s=after_s,
            expected=expected["digest"],
        )
        kills.append(made(runs, name, {**settings, "seed": seed, "number": number}, make))
        print(f"kill {number}: {kills[-1]}", flush=True)
    return {
        **settings,
        "seed": seed,
        "undisturbed": expected,
        "kills": kills,
        "equal": sum(kill["equal"] for kill in kills),
    }


def long_run(runs: Path, model: Path, *, smoke: bool, seed: int) -> dict[str, Any]:
    """2,000 iterations with a runner killed every 50."""
    settings = {"iterations": 40, "kill_every": 15, "warm_up": 10}
    if not smoke:
        settings = {"iterations": 2000, "kill_every": 50, "warm_up": 300}
    settings["seed"] = seed
    start_ray()
    try:
        # A new folder: a run that goes on is another process, whose memory begins anew.
        folder = Path(tempfile.mkdtemp(dir=runs, prefix="soak_run_"))
        result = made(runs, "soak", settings, partial(soak, folder, model, **settings))
    finally:
        ray.shutdown()
    return dict(result)


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "runners": runners,
    "driver": driver,
    "soak": long_run,
}


def main() -> None:
    """Makes what is missing and writes the results."""
    args = parse_args()
    model = build_model(args.runs / "model")
    for name in [args.part] if args.part else PARTS:
        result = PARTS[name](args.runs, model, smoke=args.smoke, seed=args.seed)
        write_json(args.output / f"{name}.json", {"environment": environment_record(), **result})
        shown = {key: value for key, value in result.items() if key not in ("series", "kills")}
        print(f"{name}: {shown}", flush=True)


if __name__ == "__main__":
    main()
