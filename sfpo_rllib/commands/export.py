"""`sfpo-rllib export`: a checkpoint's model as a transformers folder."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sfpo_rllib.commands.output import JsonOption, mendable, print_json, stdout_for_json
from sfpo_rllib.serving import export_model

ModelOption = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Where the model that training began with lies now."),
]

EXAMPLES = """\b
Examples:
  sfpo-rllib export runs/sums models/sums
  sfpo-rllib export runs/lora/checkpoint_000100 models/merged --merge"""


def export(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A checkpoint, or the folder of a run.")
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where to.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Write an adapter's whole model, not the adapter.")
    ] = False,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Writes a checkpoint's model as a transformers folder.

    vLLM loads it too; an adapter's folder is peft's. Of a run it is its newest whole checkpoint.
    The config in it is unpickled: take no checkpoint of somebody's whom you do not trust.
    """
    with mendable(), stdout_for_json(json):
        done = export_model(source, folder, merge=merge, model=model)
    if json:
        print_json(dataclasses.asdict(done))
    else:
        what = f"adapter to {done.base_model}" if done.base_model else "model"
        print(f"{done.checkpoint}: {what} in {done.folder}")
