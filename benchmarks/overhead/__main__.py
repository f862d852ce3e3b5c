"""What SFPO's update costs over the single pass: memory and time, on a character-level Llama.

How to run this script
----------------------
`python -m benchmarks.overhead`

On a GPU where there is one. Memory is measured where weights outweigh activations, time on the
quickstart's model and batch.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.alternating import CLOCKS
from benchmarks.common import environment_record, write_json
from benchmarks.overhead.memory import peak_bytes
from benchmarks.overhead.timing import added_seconds, compare_seconds
from benchmarks.overhead.workload import Size, Workload
from sfpo_rllib.core import Extrapolated, MultiEpoch, Single, SlowFast, UpdateRule

RESULTS = Path(__file__).parent / "results"
MEMORY_SIZE = Size(hidden_size=512, num_layers=4, batch_size=4, num_tokens=12)
TIME_SIZE = Size(hidden_size=128, num_layers=2, batch_size=128, num_tokens=12)
SLOW_FAST = SlowFast(fast_steps=3)
RULES: dict[str, UpdateRule] = {
    "single": Single(),
    "multi_epoch": MultiEpoch(SLOW_FAST.fast_steps + 1),
    "slow_fast": SLOW_FAST,
    "extrapolated": Extrapolated(),
}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--pairs", type=int, default=15, help="of timed updates")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=torch.device(default))
    return parser.parse_args()


def measure_memory(device: torch.device) -> dict[str, Any]:
    """Peak bytes of an update by each rule, also in copies of the weights."""
    workload = Workload(MEMORY_SIZE, device)
    workload.update(Single())  # workspaces that stay, such as cuBLAS's
    copy = workload.weight_bytes
    peaks = {name: peak_bytes(workload, rule) for name, rule in RULES.items()}
    return {
        "size": asdict(MEMORY_SIZE),
        "weight_bytes": copy,
        "rules": {
            name: {
                "rule": repr(RULES[name]),
                "peak_bytes": peak,
                "peak_copies": peak / copy,
                "copies_over_single": (peak - peaks["single"]) / copy,
            }
            for name, peak in peaks.items()
        },
    }


def measure_time(device: torch.device, pairs: int) -> dict[str, Any]:
    """Seconds of SFPO's update against single passes, and of what it adds."""
    workload = Workload(TIME_SIZE, device)
    comparison = compare_seconds(workload, SLOW_FAST, pairs)
    added = added_seconds(workload, SLOW_FAST.alpha, pairs)
    return {
        "size": asdict(TIME_SIZE),
        "rule": repr(SLOW_FAST),
        **comparison,
        **added,
        "added_share": sum(added.values()) / comparison["wall"]["rule_s"],
    }


def main() -> None:
    """Measures, prints a table and writes results.json."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    memory, seconds = measure_memory(args.device), measure_time(args.device, args.pairs)
    write_json(
        args.output / "results.json",
        {
            "environment": environment_record(),
            "device": str(args.device),
            "threads": args.threads,
            "memory": memory,
            "time": seconds,
        },
    )
    print(f"peak memory of an update, {memory['weight_bytes'] / 1e6:.1f} MB of weights")
    print(f"{'rule':14} {'MB':>8} {'copies':>8} {'over single':>12}")
    for name, row in memory["rules"].items():
        print(
            f"{name:14} {row['peak_bytes'] / 1e6:8.1f} {row['peak_copies']:8.3f} "
            f"{row['copies_over_single']:12.3f}"
        )
    print(f"\nupdate of {seconds['passes']} passes, slow_fast against single passes")
    for clock in CLOCKS:
        row = seconds[clock]
        low, high = row["ratio_interval"]
        print(
            f"{clock:14} {row['rule_s']:.4f} s, {row['single_passes_s']:.4f} s; "
            f"ratio {row['ratio']:.3f} [{low:.3f}, {high:.3f}]"
        )
    print(
        f"of these once  copy {1e3 * seconds['copy_s']:.2f} ms, "
        f"measures {1e3 * seconds['measure_s']:.2f} ms, "
        f"reposition {1e3 * seconds['reposition_s']:.2f} ms: {seconds['added_share']:.2%}"
    )
    print(args.output / "results.json")


if __name__ == "__main__":
    main()
