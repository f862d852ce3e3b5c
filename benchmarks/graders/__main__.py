"""Throughput of the math grader on one core, beside direct calls of math-verify.

How to run this script
----------------------
`python -m benchmarks.graders`

Replies of 800 words that end in one box, no two alike, cache off, grader and worker on one core.
"""

import argparse
import os
from pathlib import Path

from benchmarks.common import environment_record, write_json
from benchmarks.graders.replies import KINDS, NUM_WORDS
from benchmarks.graders.timing import CLOCKS, compare_rates

RESULTS = Path(__file__).parent / "results"
BLOCKS = {"integers": 500, "latex": 50}  # some tenths of a second each


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--samples", type=int, default=30, help="blocks of problems of each kind")
    parser.add_argument("--core", type=int, help="to run on; the first allowed by default")
    return parser.parse_args()


def main() -> None:
    """Measures, prints a table and writes results.json."""
    args = parse_args()
    core = min(os.sched_getaffinity(0)) if args.core is None else args.core
    os.sched_setaffinity(0, {core})
    kinds = {kind: compare_rates(kind, args.samples, BLOCKS[kind]) for kind in KINDS}
    write_json(
        args.output / "results.json",
        {"environment": environment_record(), "words": NUM_WORDS, "core": core, "kinds": kinds},
    )
    print(f"{'':10} {'clock':5} {'ours/s':>8} {'math-verify/s':>14} {'ratio':>8}  95% interval")
    for kind, row in kinds.items():
        for clock in CLOCKS:
            ours, direct, ratio = (
                row[clock][name] for name in ("ours_per_s", "direct_per_s", "ratio")
            )
            low, high = ratio["interval"]
            print(
                f"{kind:10} {clock:5} {ours['value']:8.0f} {direct['value']:14.0f} "
                f"{ratio['value']:8.2f}  {low:.2f} to {high:.2f}"
            )


if __name__ == "__main__":
    main()
