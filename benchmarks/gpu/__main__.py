"""Every GPU check, in processes of their own, several at once on one GPU.

How to run this script
----------------------
`python tuned_examples/smollm2_weights.py`, which prints a folder, then
`python -m benchmarks.gpu FOLDER`

Some six minutes on an H100. Writes a JSON file a check, and beside it a log of what it prints.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.training import VARIANTS

RESULTS = Path(__file__).parent / "results"
AGREEMENTS = {
    "vllm-bfloat16": ["--engine=vllm", "--dtype=bfloat16"],
    "vllm-float32": ["--engine=vllm", "--dtype=float32"],
    "vllm-bfloat16-lora": ["--engine=vllm", "--dtype=bfloat16", "--lora"],
    "transformers-bfloat16": ["--engine=transformers", "--dtype=bfloat16"],
}
RATES = (1e-6, 3e-6, 1e-5)


def checks(model: str, seeds: int, time_limit: float) -> dict[str, list[str]]:
    """The module and arguments of each check, by its name."""
    found = {
        f"agreement-{name}": ["benchmarks.gpu.agreement", model, *arguments]
        for name, arguments in AGREEMENTS.items()
    }
    for seed in range(seeds):
        for lr in RATES:
            for variant in VARIANTS:
                short = "".join(c if c.isalnum() or c == "." else "-" for c in variant)
                found[f"training-{short}-{lr:g}-{seed}"] = [
                    "benchmarks.gpu.training",
                    model,
                    f"--variant={variant}",
                    f"--lr={lr}",
                    f"--seed={seed}",
                    f"--time-limit={time_limit}",
                ]
    return found


def run(name: str, arguments: list[str], output: Path) -> int:
    """Runs one check unless its result is there; returns its exit status."""
    result = output / f"{name}.json"
    if result.exists():
        return 0
    with (output / f"{name}.log").open("w") as log:
        command = [sys.executable, "-m", *arguments, f"--output={result}"]
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    print(f"{name}: {'done' if status == 0 else f'failed with status {status}'}", flush=True)
    return status


def main() -> None:
    """Runs memory alone, since it reads the device's peak, then the rest side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="transformers folder of SmolLM2-135M-Instruct")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--at-once", type=int, default=4, help="processes that share the GPU")
    parser.add_argument("--seeds", type=int, default=1, help="of the training runs")
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds of a training")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    statuses = [run("memory", ["benchmarks.gpu.memory"], args.output)]
    with ThreadPoolExecutor(args.at_once) as pool:
        statuses += pool.map(
            lambda item: run(item[0], item[1], args.output),
            checks(args.model, args.seeds, args.time_limit).items(),
        )
    sys.exit(max(statuses))


if __name__ == "__main__":
    main()
