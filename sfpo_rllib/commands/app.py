"""The commands by name. A new one is a file here and a line below."""

import os
import sys
from typing import Any

import typer

from sfpo_rllib.commands import (
    compare,
    envs,
    evaluate,
    export,
    preflight,
    rollouts,
    serve,
    train,
)
from sfpo_rllib.commands.output import CommandError

# Their arguments are handed on to other programs, options too.
_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="sfpo-rllib",
    help="Train reasoning language models with SFPO and GRPO, and look at what came out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("preflight", epilog=preflight.EXAMPLES)(preflight.preflight)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("serve", epilog=serve.EXAMPLES, context_settings=_HANDED_ON)(serve.serve)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.add_typer(rollouts.app)
app.command("envs", context_settings=_HANDED_ON, add_help_option=False)(envs.envs)


@app.callback()
def _commands() -> None:
    """Keeps the name of a single command part of the call."""


def main(*args: Any, **kwargs: Any) -> None:
    """The console script: exit code 1 if what was asked says no, 2 if the user has to mend it.

    A `CommandError`, and a call that typer does not understand, are one line.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # as with python -m: for modules of the user's own
    try:
        status = app(*args, standalone_mode=False, **kwargs)
    except CommandError as error:
        _end(str(error), 2)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer refuses, in any of its versions
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        context = getattr(error, "ctx", None)
        help_is_at = f" (see {context.command_path} --help)" if context else ""
        _end(f"{error.format_message().rstrip('.')}{help_is_at}", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _end(message: str, status: int) -> None:
    print(f"sfpo-rllib: {message}", file=sys.stderr)
    sys.exit(status)
