"""The commands by name. A new one is a file here and a line below."""

import sys
from typing import Any

import typer

from sfpo_rllib.commands import compare, evaluate
from sfpo_rllib.commands.output import CommandError

app = typer.Typer(
    name="sfpo-rllib",
    help="Train reasoning language models with SFPO and GRPO, and look at what came out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _commands() -> None:
    """Keeps the name of a single command part of the call."""


app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)


def main(*args: Any, **kwargs: Any) -> None:
    """The console script. A `CommandError` is one line and exit code 2."""
    try:
        app(*args, **kwargs)
    except CommandError as error:
        print(f"sfpo-rllib: {error}", file=sys.stderr)
        sys.exit(2)
