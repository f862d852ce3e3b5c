"""Writes measured numbers into the README and the docs, from the committed results.

`python -m benchmarks.report` renews every block between `<!-- name -->` and `<!-- /name -->`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import interval
from benchmarks.gpu.tables import agreement
from benchmarks.graders.tables import copied_answers, grader_rates
from benchmarks.pipeline import tables
from benchmarks.pretrained.tables import pretrained
from benchmarks.rllib_algorithms.plot import LABELS as RLLIB_LABELS
from benchmarks.staleness.tables import at_one_rate, staleness
from benchmarks.time_to_accuracy.tables import (
    less_time_than_each,
    time_headline,
    time_to_accuracy,
    time_to_accuracy_setup,
)
from benchmarks.update_rules.docs_tables import (
    against_strongest,
    baselines,
    levers,
    levers_setup,
    paper_pair,
    plain_steps,
    strongest_headline,
    strongest_setup,
)
from benchmarks.update_rules.variants import BASELINE, VARIANTS
from sfpo_rllib.statistics import bootstrap_interval

ROOT = Path(__file__).parents[1]
TABLE = Path("benchmarks/update_rules/results/table.json")
STRONGEST = Path("benchmarks/update_rules/results/strongest.json")
BASELINES = Path("benchmarks/update_rules/results/baselines.json")
RLLIB = Path("benchmarks/rllib_algorithms/results/results.json")
LEARNER = Path("benchmarks/learner/results/results.json")
OVERHEAD = Path("benchmarks/overhead/results/results.json")
QUICKSTART = Path("docs/quickstart.json")
QUICKSTART_LORA = Path("docs/quickstart_lora.json")
GRADERS = Path("benchmarks/graders/results/results.json")
COPIED = Path("benchmarks/graders/results/copied.json")
PIPELINE = Path("benchmarks/pipeline/results")
STALENESS = Path("benchmarks/staleness/results/staleness.json")
LEVERS = Path("benchmarks/update_rules/results/levers.json")
SGD = Path("benchmarks/update_rules/results/sgd.json")
TIME = Path("benchmarks/time_to_accuracy/results/time_to_accuracy.json")
PRETRAINED = Path("benchmarks/pretrained/results/pretrained.json")
FAMILIES = Path("benchmarks/families/results/results.json")

Results = Mapping[str, Any]


def task_table(table: Results, task: str) -> Iterator[str]:
    """Every variant at its own best rate, and at the baseline's."""
    yield (
        "| rule | lr | best accuracy | fewer rollouts | less time | optimizer steps "
        "| reached | gain over GRPO | p | worst drop | collapsed |"
    )
    yield "|---" * 11 + "|"
    entry = table["table"][task]
    for name, rates in entry["variants"].items():
        for lr, row in rates.items():
            own = float(lr) == table["rates"][name]
            versus = row["vs_best"]
            gain = versus["accuracy_gain"]
            p_value = gain.get("p_value")
            cells = [
                VARIANTS[name].label,
                f"**{lr}**" if own else lr,
                interval(row["best_accuracy"], 3),
                interval(versus["rollouts_ratio"], 2, "x"),
                interval(versus["cpu_s_ratio"], 2, "x"),
                f"{row['optimizer_steps_to_target']['value']:.0f}",
                f"{versus['num_reached']}/{row['num_seeds']}",
                f"{gain['value']:+.3f}",
                "" if p_value is None else f"{p_value:.3f}",
                f"{row['worst_drop']:.3f}",
                f"{row['num_collapsed']}",
            ]
            yield "| " + " | ".join(cells) + " |"


def conservative(table: Results) -> Iterator[str]:
    """Ratios at the smallest common rate, against the baseline there."""
    yield "| rule | best accuracy | fewer rollouts | less time | fewer optimizer steps | reached |"
    yield "|---" * 6 + "|"
    rate = f"{table['settings']['protocol']['rates'][0]:g}"
    for name, rates in table["table"]["arithmetic"]["variants"].items():
        row = rates.get(rate, {})
        if versus := row.get("vs_same_rate"):
            cells = [
                VARIANTS[name].label,
                interval(row["best_accuracy"], 3),
                interval(versus["rollouts_ratio"], 2, "x"),
                interval(versus["cpu_s_ratio"], 2, "x"),
                interval(versus["optimizer_steps_ratio"], 2, "x"),
                f"{versus['num_reached']}/{row['num_seeds']}",
            ]
            yield "| " + " | ".join(cells) + " |"


def common_rates(table: Results) -> Iterator[str]:
    """Ratios against the baseline at the same learning rate, on the grid's seeds."""
    rates = list(table["grid"][BASELINE])
    yield "| rule | " + " | ".join(f"lr {lr}" for lr in rates) + " |"
    yield "|---" * (1 + len(rates)) + "|"
    for name, entries in table["grid"].items():
        cells = []
        for lr in rates:
            entry = entries.get(lr)
            cells.append(
                f"{entry['best_accuracy']:.3f}, {ratio(entry['vs_same_rate'], 'rollouts')}"
                if entry
                else ""
            )
        yield f"| {VARIANTS[name].label} | " + " | ".join(cells) + " |"


def setup(table: Results) -> Iterator[str]:
    """How the table was made."""
    settings, machine = table["settings"], table["environment"]["machine"]
    protocol = settings["protocol"]
    problems = settings["batch_size"] // settings["group_size"]
    table_seeds, grid_seeds = (
        ", ".join(map(str, protocol[name])) for name in ("table_seeds", "grid_seeds")
    )
    rates = ", ".join(f"{lr:g}" for lr in protocol["rates"])
    yield (
        f"{settings['num_batches']} batches of {settings['batch_size']} rollouts "
        f"({problems} problems x {settings['group_size']}) "
        f"a run. Seeds of the tables by task: {table_seeds}. Learning rates were chosen on the "
        f"arithmetic task with other seeds ({grid_seeds}), from {rates} and beyond "
        f"where the best was at an edge. Accuracy from {settings['eval_samples']:,} samples on 512 "
        f"held-out problems, every {settings['eval_every']} batches, smoothed over 3 evaluations. "
        f"Adam, learning rate warmed up over {settings['warm_up_batches']} batches, one optimizer "
        f"step a pass. {machine['cpu']}, one thread a run."
    )


def rllib(results: Results) -> Iterator[str]:
    """Environment steps to a return, each at its own best rate and all at plain PPO's."""
    yield (
        f"| | lr | environment steps to a return of {results['target_return']:.0f} | of PPO's "
        "| gradient steps | reached |"
    )
    yield "|---" * 6 + "|"
    shown = set()
    for rows in results["summary"].values():
        for variant, row in rows.items():
            if (variant, row["lr"]) in shown:
                continue
            shown.add((variant, row["lr"]))
            low, high = row["env_steps"]["interval"]
            ratio_low, ratio_high = row["ratio"]["env_steps"]["interval"]
            cells = [
                RLLIB_LABELS[variant],
                f"{row['lr']:g}",
                f"{row['env_steps']['median']:,.0f} ({low:,.0f} to {high:,.0f})",
                f"{row['ratio']['env_steps']['median']:.2f} ({ratio_low:.2f} to {ratio_high:.2f})",
                f"{row['gradient_steps']['median']:,.0f}",
                f"{row['num_reached']}/{row['num_runs']}",
            ]
            yield "| " + " | ".join(cells) + " |"


def overhead(results: Results) -> Iterator[str]:
    """Memory in copies of the weights, and time against single passes."""
    yield "| rule | peak memory of an update, copies of the weights | more than `single` |"
    yield "|---|---|---|"
    for name, row in results["memory"]["rules"].items():
        yield f"| `{name}` | {row['peak_copies']:.2f} | {row['copies_over_single']:.2f} |"
    seconds = results["time"]
    low, high = seconds["wall"]["ratio_interval"]
    yield ""
    yield (
        f"An update by `{seconds['rule']}` takes {seconds['wall']['ratio']:.2f} "
        f"({low:.2f} to {high:.2f}) of the time of {seconds['passes']} single passes; copy, "
        f"measures and reposition are {seconds['added_share']:.1%} of it."
    )


def ratio(comparison: Mapping[str, Any], cost: str) -> str:
    """`2.1x`."""
    return f"{comparison[f'{cost}_ratio']['value']:.2f}x"


def load(path: Path) -> Any:
    """A committed result."""
    return json.loads((ROOT / path).read_text())


Block = Callable[[], Iterator[str]]


def learner_steps(results: Results) -> Iterator[str]:
    """One step on one batch: speed and memory of ours and of others, by the wall clock."""
    yield (
        "| model | step | tokens/s | ours, times as fast | ours packed, times as fast "
        "| peak memory, of the bare loop's |"
    )
    yield "|---" * 6 + "|"
    for row in results["workloads"]:
        slower = {  # than ours, round by round
            name: np.array(step["wall"]["ours_over_it"]["ratios"])
            for name, step in row["steps"].items()
        }
        for name, step in row["steps"].items():
            cells = [row["workload"]["name"], name, f"{step['wall']['tokens_per_s']:,.0f}"]
            for ours in ("ours", "ours, packed"):
                ratios = slower[name] / slower[ours]
                low, high = bootstrap_interval(ratios.tolist())
                cells.append(
                    "" if name == ours else f"{np.median(ratios):.2f} ({low:.2f} to {high:.2f})"
                )
            cells.append(f"{step['peak_over_bare_loop']:.2f}")
            yield "| " + " | ".join(cells) + " |"


def learner_headline(results: Results) -> Iterator[str]:
    """Our packed step against TRL's, speed and memory."""
    yield "| one optimizer step, packed | of TRL 1.16's speed | of its peak memory |"
    yield "|---|---|---|"
    for row in results["workloads"]:
        ours, trl = row["steps"]["ours, packed"], row["steps"]["TRL"]
        slower = [np.array(step["wall"]["ours_over_it"]["ratios"]) for step in (trl, ours)]
        ratios = slower[0] / slower[1]
        low, high = bootstrap_interval(ratios.tolist())
        cells = [
            row["workload"]["name"],
            f"{np.median(ratios):.2f}x ({low:.2f} to {high:.2f})",
            f"{ours['peak_bytes'] / trl['peak_bytes']:.0%}",
        ]
        yield "| " + " | ".join(cells) + " |"


def adapter(whole: Results, lora: Results) -> Iterator[str]:
    """The quickstart by an adapter and by all weights."""
    yield "| quickstart | trained | accuracy before | after |"
    yield "|---|---|---|---|"
    for trained, run in (("all weights", whole), ("an adapter of rank 8", lora)):
        cells = [
            f"`{run['command']}`",
            trained,
            f"{run['accuracy_before']:.3f}",
            f"{run['accuracy_after']:.3f}",
        ]
        yield "| " + " | ".join(cells) + " |"


def learner_heads(results: Results) -> Iterator[str]:
    """What chunks of logits save."""
    yield "| vocabulary | whole logits, MB | in chunks, MB | saved |"
    yield "|---|---|---|---|"
    for row in results["heads"]:
        cells = [
            f"{row['vocab_size']:,}",
            f"{row['whole_bytes'] / 1e6:,.0f}",
            f"{row['chunked_bytes'] / 1e6:,.0f}",
            f"{row['saved_share']:.0%}",
        ]
        yield "| " + " | ".join(cells) + " |"


def families(results: Results) -> Iterator[str]:
    """Each model family with each engine."""
    engines = ("transformers", "vllm")
    yield "| family | embeddings | " + " | ".join(f"{e}, nats | {e}, saved" for e in engines) + " |"
    yield "|---" * (2 + 2 * len(engines)) + "|"
    for name, entry in results.items():
        cells = [f"`{name}`", "tied" if entry["tied"] else ""]
        for engine in engines:
            row = entry[engine]
            if "refused" in row:
                cells += [_refusal(row["refused"]), ""]
            else:
                exact = row["saved_difference"] == 0.0
                cells += [f"{row['logp_difference']:.0e}", "equal" if exact else "**differs**"]
        yield "| " + " | ".join(cells) + " |"


def _refusal(message: str) -> str:
    """Why the algorithm refused to begin, in a few words."""
    found = re.search(r"differ by (\S+) nats in the mean", message)
    return f"refused: {found[1]} in the mean" if found else "refused: does not run it"


BLOCKS: dict[str, dict[str, Block]] = {
    "README.md": {
        "headline": lambda: strongest_headline(load(STRONGEST)),
        "time": lambda: time_headline(load(TIME)),
        "learner": lambda: learner_headline(load(LEARNER)),
    },
    "docs/update_rules.md": {"headline": lambda: strongest_headline(load(STRONGEST))},
    "docs/update_rules_measured.md": {
        "strongest_setup": lambda: strongest_setup(load(STRONGEST)),
        "strongest_sums": lambda: against_strongest(load(STRONGEST), "arithmetic"),
        "strongest_spelling": lambda: against_strongest(load(STRONGEST), "spell_backward"),
        "paper_pair": lambda: paper_pair(load(STRONGEST)),
        "levers_setup": lambda: levers_setup(load(LEVERS)),
        "levers_sums": lambda: levers(load(LEVERS), "arithmetic"),
        "levers_spelling": lambda: levers(load(LEVERS), "spell_backward"),
        "levers_few_sums": lambda: levers(load(LEVERS), "few_sums"),
        "plain_steps": lambda: plain_steps(load(SGD)),
        "baselines_sums": lambda: baselines(load(BASELINES), "arithmetic"),
        "baselines_spelling": lambda: baselines(load(BASELINES), "spell_backward"),
        "setup": lambda: setup(load(TABLE)),
        "arithmetic": lambda: task_table(load(TABLE), "arithmetic"),
        "spell_backward": lambda: task_table(load(TABLE), "spell_backward"),
        "conservative": lambda: conservative(load(TABLE)),
        "common_rates": lambda: common_rates(load(TABLE)),
        "long_replies_setup": lambda: time_to_accuracy_setup(load(TIME)),
        "long_replies": lambda: time_to_accuracy(load(TIME)),
        "long_replies_each": lambda: less_time_than_each(load(TIME)),
        "pretrained": lambda: pretrained(load(PRETRAINED)),
        "rllib": lambda: rllib(load(RLLIB)),
        "overhead": lambda: overhead(load(OVERHEAD)),
    },
    "docs/learner.md": {
        "steps": lambda: learner_steps(load(LEARNER)),
        "heads": lambda: learner_heads(load(LEARNER)),
        "adapter": lambda: adapter(load(QUICKSTART), load(QUICKSTART_LORA)),
    },
    "docs/graders.md": {
        "rates": lambda: grader_rates(load(GRADERS)),
        "copied": lambda: copied_answers(load(COPIED)),
    },
    "docs/own_environment.md": {
        "environments": lambda: tables.slow_environments(load(PIPELINE / "environments.json"))
    },
    "docs/async.md": {
        "overlap": lambda: tables.overlap(
            load(PIPELINE / "overlap.json"), load(PIPELINE / "real_engine.json")
        ),
        "driver": lambda: tables.driver(load(PIPELINE / "driver.json")),
        "straggler": lambda: tables.straggler(load(PIPELINE / "straggler.json")),
        "staleness": lambda: staleness(load(STALENESS)),
        "staleness_at_one_rate": lambda: at_one_rate(load(STALENESS)),
    },
    "docs/benchmarks.md": {"runner": lambda: tables.runner(load(PIPELINE / "runner.json"))},
    "docs/weights.md": {
        "weights": lambda: tables.weight_sync(
            load(PIPELINE / "weights_before.json"), load(PIPELINE / "weights.json")
        ),
        "gpu": agreement,
    },
    "docs/models.md": {"families": lambda: families(load(FAMILIES))},
}


def renewed(text: str, blocks: Mapping[str, Block]) -> str:
    """The text with each block between its marks made anew.

    Raises:
        ValueError: If a mark is missing.
    """
    for name, lines in blocks.items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if not 0 <= text.find(opening) < text.find(closing):
            raise ValueError(f"no block between {opening.strip()} and {closing}")
        before, rest = text.split(opening, 1)
        after = rest.split(closing, 1)[1]
        text = before + opening + "".join(f"{line}\n" for line in lines()) + closing + after
    return text


def main() -> None:
    """Renews all blocks."""
    for name, blocks in BLOCKS.items():
        path = ROOT / name
        path.write_text(renewed(path.read_text(), blocks))


if __name__ == "__main__":
    main()
