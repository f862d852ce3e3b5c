"""Our learner's step against a bare torch loop and TRL's: tokens a second and peak memory.

How to run this script
----------------------
`python -m benchmarks.learner`

The same model, batch and arithmetic for all, in turn; each in turn also alone under the profiler,
which counts what its step allocates on top of what stays.
"""

import argparse
import importlib.util
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers

from benchmarks.alternating import CLOCKS, alternate, ratio_of
from benchmarks.common import environment_record, write_json
from benchmarks.learner.contenders import Step, bare_loop, ours, trl
from benchmarks.learner.rollouts import WORKLOADS, Workload
from benchmarks.overhead.memory import cpu_peak_bytes
from sfpo_rllib.rl_modules.causal_lm import LOSS_MASK
from sfpo_rllib.rl_modules.token_logprobs import logprobs_of_logits, token_logprobs

RESULTS = Path(__file__).parent / "results"
VOCABULARIES = (49_152, 151_936)
HEAD_TOKENS, HEAD_WIDTH = 2048, 64


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=15, help="each is timed so often")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    return parser.parse_args()


def compare(workload: Workload, rounds: int) -> dict[str, Any]:
    """Tokens a second and peak memory of every contender's step, and ratios to ours."""
    with tempfile.TemporaryDirectory() as folder:
        model = workload.build_model(Path(folder))
        steps: dict[str, Step] = {
            "ours": ours(model, workload),
            "ours, packed": ours(model, workload, packing=True),
            "bare loop": bare_loop(model, workload),
        }
        if importlib.util.find_spec("trl"):
            steps["TRL"] = trl(model, workload)
        seconds = alternate(steps, rounds)
        peaks = {name: cpu_peak_bytes(step) for name, step in steps.items()}
    tokens = int(workload.rollouts(100)[LOSS_MASK].sum())
    return {
        "workload": asdict(workload),
        "trained_tokens": tokens,
        "steps": {
            name: {
                "peak_bytes": peaks[name],
                "peak_over_bare_loop": peaks[name] / peaks["bare loop"],
                **{
                    clock: {
                        "tokens_per_s": tokens / median(by_name[name]),
                        # Tokens a second of ours over its.
                        "ours_over_it": ratio_of(by_name[name], by_name["ours"]),
                    }
                    for clock, by_name in seconds.items()
                },
            }
            for name in steps
        },
    }


def head_memory(vocab_size: int) -> dict[str, Any]:
    """Peak bytes of log-probs, forward and backward, through chunks and through whole logits."""
    hidden = torch.randn(HEAD_TOKENS, HEAD_WIDTH, requires_grad=True)
    weight = torch.randn(vocab_size, HEAD_WIDTH, requires_grad=True)
    targets = torch.randint(vocab_size, (HEAD_TOKENS,))

    def by_chunks() -> None:
        logp, _ = token_logprobs(hidden, weight, targets)
        torch.autograd.grad(logp.sum(), (hidden, weight))

    def by_whole_logits() -> None:
        logp, _ = logprobs_of_logits(hidden @ weight.T, targets)
        torch.autograd.grad(logp.sum(), (hidden, weight))

    chunked, whole = cpu_peak_bytes(by_chunks), cpu_peak_bytes(by_whole_logits)
    return {
        "vocab_size": vocab_size,
        "tokens": HEAD_TOKENS,
        "chunked_bytes": chunked,
        "whole_bytes": whole,
        "saved_share": 1 - chunked / whole,
    }


def main() -> None:
    """Measures, prints a table and writes results.json."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    heads = [head_memory(size) for size in VOCABULARIES]
    workloads = [compare(workload, args.rounds) for workload in WORKLOADS]
    write_json(
        args.output / "results.json",
        {
            "environment": environment_record(),
            "threads": args.threads,
            "rounds": args.rounds,
            "workloads": workloads,
            "heads": heads,
        },
    )
    for row in workloads:
        print(f"\n{row['workload']['name']}, {row['trained_tokens']} trained tokens")
        for name, step in row["steps"].items():
            shown = "  ".join(
                f"{clock} {step[clock]['tokens_per_s']:8.0f} tokens/s, ours over it "
                f"{step[clock]['ours_over_it']['ratio']:.3f}"
                for clock in CLOCKS
            )
            print(f"{name:14} {shown}  peak {step['peak_bytes'] / 1e6:8.1f} MB")
    for row in heads:
        print(
            f"\nvocabulary {row['vocab_size']}, {row['tokens']} tokens: whole logits "
            f"{row['whole_bytes'] / 1e6:.0f} MB, chunks {row['chunked_bytes'] / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
