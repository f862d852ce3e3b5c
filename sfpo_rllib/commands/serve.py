"""`sfpo-rllib serve`: vLLM's server on what was trained."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sfpo_rllib.commands.export import ModelOption
from sfpo_rllib.commands.output import mendable
from sfpo_rllib.serving import servable, serve_command

EXAMPLES = """\b
Examples:
  sfpo-rllib serve runs/sums --port 8001 --served-model-name sums"""


def serve(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A checkpoint, a run, or a model's folder.")
    ],
    model: ModelOption = None,
) -> None:
    """Runs vLLM's server on what was trained.

    Options that are not listed are those of `vllm serve`. A checkpoint is exported to a folder
    beside it first, an adapter merged. The model's name for clients is that folder, or what
    --served-model-name says.
    """
    with mendable():
        serve_command(source, context.args)  # no vLLM, or no port: said before there is work
        command = serve_command(servable(source, model=model), context.args)
        print(shlex.join(command), flush=True)
        os.execv(command[0], command)
