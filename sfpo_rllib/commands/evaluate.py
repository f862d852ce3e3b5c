"""`sfpo-rllib evaluate`: how good a model, a checkpoint or a run is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sfpo_rllib.commands.output import (
    CommandError,
    JsonOption,
    json_object,
    mendable,
    print_json,
    stdout_for_json,
)

EXAMPLES = """\b
Examples:
  sfpo-rllib evaluate runs/quickstart
  sfpo-rllib evaluate my_model --tasks gsm8k,math500 --data problems/ -k 4
  sfpo-rllib evaluate runs/a --checkpoint all --preset paper"""


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A transformers folder, a hub id, a checkpoint, or the folder of a run.",
        ),
    ],
    tasks: Annotated[
        str | None,
        typer.Option(help="Names with commas between, gymnasium ids, or .jsonl files of problems."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Tasks and sampling of a paper.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="TASK=FILE, or a folder with files of several tasks; else the hub."),
    ] = None,
    env_config: Annotated[
        str, typer.Option(help="JSON: options of the tasks' environments.")
    ] = "{}",
    template: Annotated[
        str | None, typer.Option(help="Prompt template of the math tasks, e.g. qwen_boxed.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", "--k", "-k", help="Replies to each problem.")
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="The likeliest reply. So it is with one sample.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="0: greedy. 1 with several samples.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus that is sampled from.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Tokens that are sampled from.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest reply: 2048.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many problems of a task.")] = None,
    seed: Annotated[int, typer.Option(help="Of the replies.")] = 0,
    checkpoint: Annotated[
        str, typer.Option(help="Which of a run: newest, best (held-out) or all.")
    ] = "newest",
    base_model: Annotated[
        str | None, typer.Option(help="The model a checkpoint belongs to, if no run says it.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model's own code run.")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="vllm (where it is installed) or transformers.")
    ] = None,
    engine_kwargs: Annotated[str, typer.Option(help="JSON: the engine's own settings.")] = "{}",
    dtype: Annotated[
        str | None, typer.Option(help="float32 or bfloat16: the run's, or what the machine suits.")
    ] = None,
    prompt_format: Annotated[str | None, typer.Option(help="auto, chat or raw.")] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder of the results: evaluations/MODEL."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measures avg@k, pass@k and maj@k of a model on benchmarks or on an environment.

    Of a run without --tasks: as the run evaluates itself. Killed, it goes on where it was when it
    is run again. The output folder holds every reply, a line each in replies.jsonl, and
    results.json.
    """
    from sfpo_rllib import evals
    from sfpo_rllib.commands.evaluation_view import Progress, print_tables, quiet
    from sfpo_rllib.evals.evaluate import best_of

    if greedy and temperature:
        raise CommandError(
            f"temperature={temperature:g}: must be left out with --greedy, which takes the "
            "likeliest reply"
        )
    if preset is not None and preset not in evals.PRESETS:
        raise CommandError(f"preset={preset}: must be one of {', '.join(evals.PRESETS)}")
    of_preset: dict[str, Any] = {} if preset is None else evals.PRESETS[preset]
    names = tasks.split(",") if tasks is not None else of_preset.get("tasks")
    sampling = _given(
        temperature=0.0 if greedy else temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens
    )
    settings = _given(
        samples=samples if samples is not None else of_preset.get("samples"),
        limit=limit,
        engine=engine,
        dtype=dtype,
        prompt_format=prompt_format,
        engine_kwargs=json_object("engine_kwargs", engine_kwargs) or None,
    )
    options = json_object("env_config", env_config)
    if template is not None:
        options["prompt_template"] = template
    quiet()
    # What engines print goes where the progress goes.
    with mendable(), stdout_for_json(True):
        found = [
            model
            for given in models
            for model in evals.find_models(
                given,
                base_model=base_model,
                checkpoint=checkpoint,
                revision=revision,
                trust_remote_code=trust_remote_code,
            )
        ]
        chosen = None
        if names is not None:
            chosen = evals.find_tasks(
                [n.strip() for n in names if n.strip()], data=data or (), options=options
            )
        elif data or options:
            raise CommandError("tasks=None: must be said with --data, --env-config or --template")
        with Progress() as progress:
            results = evals.evaluate(
                found,
                chosen,
                output=Path("evaluations") / _folder_name(models) if output is None else output,
                watcher=progress,
                seed=seed,
                sampling={**of_preset.get("sampling", {}), **sampling},
                **settings,
            )
    best = best_of(results) if len(results) > 1 else None
    if as_json:
        content = {"models": [each.as_json() for each in results]}
        print_json(content | ({"best": best.model.name} if best else {}))
    else:
        print_tables(results, best)
    if any(each.average is None for each in results):
        raise typer.Exit(1)  # nothing could be sampled of some task


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _folder_name(models: Sequence[str]) -> str:
    """A folder's name for what a user evaluates."""
    paths = [Path(model) for model in models]
    places = [path.resolve() if path.exists() else path for path in paths]
    return "_".join(part for place in places for part in place.parts[-2:] if part != "/")[:100]
