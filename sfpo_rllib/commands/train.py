"""`sfpo-rllib train`: what a config says, in a folder, from wherever that one stands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sfpo_rllib.commands.output import (
    CommandError,
    JsonOption,
    end_if_it_does_not_fit,
    in_few_lines,
    mendable,
    print_json,
    stdout_for_json,
)
from sfpo_rllib.config_files import RunPlan, check, load_config, plan_of
from sfpo_rllib.config_files.strict_yaml import dump
from sfpo_rllib.reporting import finite, iteration_line
from sfpo_rllib.run_loop import RunResult, run
from sfpo_rllib.tracking import make_tracker

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A .yaml of settings, or a .py with `config`.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings in place of the file's, e.g. lr=1e-6 env_config.num_digits=3.",
    ),
]

EXAMPLES = """\b
Examples:
  sfpo-rllib train sums.yaml lr=1e-3 --output runs/sums --iterations 200
  sfpo-rllib train sums.yaml num_env_runners=2 --dry-run"""


def train(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder of the run: new, or its own.")
    ] = None,
    iterations: Annotated[int, typer.Option(help="To be done in all.")] = 100,
    checkpoint_every: Annotated[int, typer.Option(help="Iterations between checkpoints.")] = 10,
    keep: Annotated[int, typer.Option(help="Checkpoints that stay.")] = 2,
    keep_best: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The one at which this column of progress.csv was highest stays too, e.g. "
            "heldout_accuracy.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and start nothing.")
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to this project of W&B.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Log to this experiment of MLflow.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Trains what CONFIG says. The same call again goes on where the run stands.

    Ctrl-C and SIGTERM save it first, and end with exit code 130 or 143. With an
    evaluation_interval it is evaluated before the first iteration and after the last one too.
    """
    with mendable():
        loaded = load_config(config, overrides or ())
        if dry_run:
            _print_plan(plan_of(loaded), as_json=json)
            return
        if output is None:
            raise CommandError("--output: must be given, the folder of the run")
        named = {"wandb": wandb, "mlflow": mlflow}
        check(loaded)  # before it is said that it trains
        trackers = [make_tracker(name, at) for name, at in named.items() if at is not None]
    begun = False

    def on_result(algo: Any, result: dict[str, Any]) -> None:
        nonlocal begun
        begun = True
        print(iteration_line(result), flush=True)

    with stdout_for_json(json):
        name = loaded.algo_class.__name__
        print(f"{name} in {output}, up to iteration {iterations}", flush=True)
        try:
            done = run(
                loaded,
                output,
                iterations=iterations,
                checkpoint_every=checkpoint_every,
                keep=keep,
                keep_best=keep_best,
                evaluate_ends=bool(loaded.evaluation_interval),
                trackers=trackers,
                on_result=on_result,
            )
        except (ValueError, OSError) as error:
            if begun:  # whatever it is, it is nothing of what was asked for
                raise
            raise CommandError(in_few_lines(error)) from error
        print(_said(done, begun=begun), flush=True)
    if json:
        print_json(
            {
                "folder": done.folder,
                "checkpoint": done.checkpoint,
                "iterations": done.iterations,
                "resumed_from": done.resumed_from,
                "seconds": done.seconds,
                "last": finite(done.rows[-1]) if done.rows else {},
            }
        )


def _said(done: RunResult, *, begun: bool) -> str:
    if not begun:
        return f"nothing to do: the run has its {done.iterations} iterations; {done.checkpoint}"
    heldout = [row["heldout_accuracy"] for row in done.rows if "heldout_accuracy" in row]
    accuracy = f", held-out accuracy {heldout[0]:.3f} -> {heldout[-1]:.3f}" if heldout else ""
    start = f", gone on from {done.resumed_from}" if done.resumed_from is not None else ""
    return (
        f"{done.iterations} iterations in {done.seconds:.0f} s{start}{accuracy}; {done.checkpoint}"
    )


def _print_plan(plan: RunPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "algorithm": plan.algorithm,
                "settings": plan.settings,
                "changed": plan.changed,
                "memory_bytes": plan.memory.tables(),
                "memory_problems": [*plan.memory.problems()],
                "resources": plan.resources,
                "processes": [
                    {"number": number, "resources": each} for number, each in plan.processes
                ],
            }
        )
    else:
        print("# What differs from the defaults")
        settings = {"algo": plan.algorithm, **plan.changed}
        print(dump(settings))
        print(f"# Memory by device\n{plan.memory}\n")
        print(f"# Resources: {_amounts(plan.resources)}")
        for number, each in plan.processes:
            print(f"{number} x {_amounts(each)}")
    end_if_it_does_not_fit(plan.memory)


def _amounts(resources: Any) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "none"
