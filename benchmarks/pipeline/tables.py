"""Tables of this benchmark's results, for the docs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]


def slow_environments(results: Results) -> Iterator[str]:
    """Slow environments beside a fast engine."""
    yield "| `num_env_threads` | seconds | times as fast |"
    yield "|---" * 3 + "|"
    for number, row in results["num_env_threads"].items():
        times = row["times_as_fast"]
        cells = [
            number,
            _interval(row["seconds"], row["seconds_interval"], 2),
            _interval(times["ratio"], times["ratio_interval"], 1, "x"),
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield (
        f"{results['episodes']} episodes of one step of {results['step_s']:g} s, with an engine "
        f"that replies at once. Medians of {results['rounds']} rounds in turn, with 95% intervals "
        "(`python -m benchmarks.pipeline environments`)."
    )


def weight_sync(before: Results, now: Results) -> Iterator[str]:
    """Copies of the weights that a sync makes."""
    labels = {
        "stored_copies": "put into the object store",
        "learner_copies": "held by the learner besides, at most",
        "driver_copies": "by the driver",
        "runner_0_copies": "by a runner besides its engine",
    }
    yield "| copies of the weights | before | now |"
    yield "|---|---|---|"
    for name, label in labels.items():
        cells = [f"{results['median'][name]:.2f}" for results in (before, now)]
        yield f"| {label} | " + " | ".join(cells) + " |"


def runner(results: Results) -> Iterator[str]:
    """A runner beside vLLM's own `generate`."""
    yield "| replies of up to | runner, of the speed of `LLM.generate` | by CPU time |"
    yield "|---|---|---|"
    for tokens, row in results["max_tokens"].items():
        speeds = (row["speed"][clock] for clock in ("wall", "cpu"))
        cells = [_interval(each["ratio"], each["ratio_interval"], 2) for each in speeds]
        yield f"| {tokens} tokens | " + " | ".join(cells) + " |"


def overlap(sleeping: Results, real: Results) -> Iterator[str]:
    """Seconds an iteration in turns and overlapped: first where all sleep, then with vLLM."""
    yield "| | s an iteration | times as fast as in turns |"
    yield "|---|---|---|"
    for name, run in sleeping["runs"].items():
        staleness, ratio = name.removeprefix("S="), run["times_as_fast"]
        seconds = _interval(run["seconds"], run["seconds_interval"], 2)
        times = _interval(ratio["ratio"], ratio["ratio_interval"], 2, "x")
        yield (
            f"| engine and learner that sleep {sleeping['sample_s']:g} s each, S = {staleness} "
            f"| {seconds} | {times} |"
        )
    turns = {n.removesuffix(", S=0"): run for n, run in real["runs"].items() if n.endswith("S=0")}
    for name, run in real["runs"].items():
        label, _, staleness = name.partition(", S=")
        seconds = _interval(run["seconds"], run["seconds_interval"], 2)
        faster = turns[label]["seconds"] / run["seconds"]
        yield (
            f"| vLLM, {real['batch']} replies of up to {real['max_tokens']} tokens, {label}, "
            f"S = {staleness} | {seconds} | {faster:.2f}x |"
        )
    yield ""
    rounds = len(next(iter(sleeping["runs"].values()))["all_seconds"])
    bounds = "; ".join(
        f"{name.removesuffix(', S=1')}: {run['above_best_possible']:+.0%} of max(s, l) = "
        f"{run['best_possible_s']:.2f} s"
        for name, run in real["runs"].items()
        if name.endswith("S=1")
    )
    yield (
        f"Medians of {rounds} and {real['rounds']} runs of each in turn, with 95% intervals "
        "(`python -m benchmarks.pipeline overlap` and `real_engine`). With vLLM, sampling alone "
        f"takes s = {real['sample_s']:.2f} s; {bounds}."
    )


def driver(results: Results) -> Iterator[str]:
    """CPU time of the driver by the number of runners."""
    yield "| runners | driver's ms of CPU a group |"
    yield "|---|---|"
    for number, row in results["num_env_runners"].items():
        yield f"| {number} | {_interval(row['ms_a_group'], row['ms_a_group_interval'], 3)} |"
    yield ""
    yield (
        f"{results['groups_a_runner']} groups of {results['group_size']} a runner and batch, S = "
        f"{results['max_staleness']}; runners are threads under RLlib's actor manager, and Ray's "
        f"transport is left out. Medians of {results['rounds']} rounds in turn, with 95% intervals "
        "(`python -m benchmarks.pipeline driver`)."
    )


def straggler(results: Results) -> Iterator[str]:
    """Seconds a batch of two runners, of which one is slow, by the size of jobs."""
    yield "| two runners | s a batch |"
    yield "|---|---|"
    for name, run in results["runs"].items():
        yield f"| {name} | {_interval(run['seconds'], run['seconds_interval'], 2)} |"
    yield ""
    yield (
        f"A slow one takes four times as long; with nothing to wait for, a batch would take "
        f"{results['best_possible_s']:.1f} s. Medians of {results['rounds']} runs of each in turn, "
        "with 95% intervals (`python -m benchmarks.pipeline straggler`)."
    )


def _interval(value: float, bounds: Sequence[float], digits: int, unit: str = "") -> str:
    """`0.50 (0.40 to 0.60)`."""
    low, high = bounds
    return f"{value:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"
