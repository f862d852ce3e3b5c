"""What waits for what between environments, engines and learners.

`python -m benchmarks.pipeline` makes results/<part>.json for each part; the name of one as an
argument makes that one. `--smoke` is the same in seconds, to see that it runs.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import environment_record, write_json
from benchmarks.pipeline import driver, environments, overlap, real_engine, runner, weights

HERE = Path(__file__).parent

# By name: takes a folder for what it makes, and whether to be quick about it.
PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "driver": driver.measure,
    "environments": environments.measure,
    "overlap": overlap.measure,
    "straggler": overlap.measure_straggler,
    "real_engine": real_engine.measure,
    "runner": runner.measure,
    "weights": weights.measure,
}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.pipeline", description=__doc__)
    parser.add_argument("part", nargs="?", choices=list(PARTS), help="by default all")
    parser.add_argument("--smoke", action="store_true", help="seconds, to see that it runs")
    parser.add_argument("--output", type=Path, default=None, help="folder of the JSON files")
    args = parser.parse_args()
    if args.output is None:
        args.output = Path("runs") / "pipeline_smoke" if args.smoke else HERE / "results"
    return args


def main() -> None:
    """Measures and writes the results."""
    args = parse_args()
    for name in [args.part] if args.part else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            result = PARTS[name](Path(folder), smoke=args.smoke)
        write_json(args.output / f"{name}.json", {"environment": environment_record(), **result})
        print(f"{name}: {result}", flush=True)


if __name__ == "__main__":
    main()
