"""`sfpo-rllib rollouts`: what a run's model has written."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfpo_rllib.commands.output import (
    JsonOption,
    json_object,
    mendable,
    print_json,
    stdout_for_json,
)

if TYPE_CHECKING:
    from sfpo_rllib.recordings.regrade import Regraded

app = typer.Typer(
    name="rollouts",
    help="Looks at recorded rollouts, and grades them again.",
    no_args_is_help=True,
)


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a trial of Tune's.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN_B]", help="Another, shown next to it.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="PATH", help="The HTML file.")
    ] = "rollouts.html",
    max_mb: Annotated[
        float, typer.Option(min=0.1, help="Groups that would make it larger are left out evenly.")
    ] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Writes one HTML file of a run's rollouts, or of two runs', for a browser without a network.

    Example: sfpo-rllib rollouts view runs/quickstart -o rollouts.html
    """
    from sfpo_rllib.recordings.page import write_page

    with mendable(), stdout_for_json(as_json):
        page = write_page([run, *([] if other is None else [other])], output, max_mb=max_mb)
    if as_json:
        print_json(
            {
                "path": page.path,
                "episodes": page.num_episodes,
                "recorded": page.num_recorded,
                "bytes": page.num_bytes,
            }
        )
        return
    left = page.num_recorded - page.num_episodes
    print(
        f"{page.path}: {page.num_episodes} episodes, {page.num_bytes / 1e6:.1f} MB"
        + (f"; {left} more would not fit in --max-mb {max_mb:g}" if left else "")
    )


@app.command()
def regrade(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a trial of Tune's.")],
    grader: Annotated[
        str, typer.Option(help="math, exact, numeric, multiple_choice, or module:function.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the grader.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="training or evaluation; both if not given.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Its id, if the run's had none.")] = None,
    env_config: Annotated[
        str, typer.Option(metavar="JSON", help="Options other than the run's.")
    ] = "{}",
    show: Annotated[int, typer.Option(min=0, help="Replies that are shown.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Grades recorded replies again by another grader, and prints what changes.

    Example: sfpo-rllib rollouts regrade runs/quickstart --grader numeric
    """
    from sfpo_rllib.recordings.regrade import regrade

    with mendable(), stdout_for_json(as_json):
        result = regrade(
            run,
            grader,
            settings=dict(map(_setting, settings or [])),
            stage=stage,
            env=env,
            env_config=json_object("env_config", env_config),
        )
    if as_json:
        print_json(result.as_json())
    else:
        _print_tables(result, show)


def _setting(text: str) -> tuple[str, Any]:
    """A `key=value`, whose value is JSON or else a text."""
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise ValueError(f"set={text!r}: must be KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _print_tables(result: "Regraded", show: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    before, after = result.num_correct()
    console.print(
        f"{result.num_episodes} episodes: {before} correct as recorded, {after} by "
        f"{result.grader}; {len(result.changes)} verdicts change",
        highlight=False,
    )
    counts = Table("recorded", result.grader, "episodes")
    for (old, new), count in sorted(result.counts.items()):
        counts.add_row(old, new, str(count), style="" if old == new else "bold")
    console.print(counts)
    if result.changes and show:
        changes = Table("iteration", "problem", "recorded", result.grader, "answer", "reply")
        for change in result.changes[:show]:
            changes.add_row(
                f"{change.iteration} {change.stage}",
                f"{change.seed} #{change.member}",
                change.before,
                change.after,
                *map(Text, (change.answer, _tail(change.reply))),  # no markup
            )
        console.print(changes)
        if (more := len(result.changes) - show) > 0:
            console.print(f"and {more} more; --json has all", highlight=False)


def _tail(reply: str, most: int = 60) -> str:
    """The end of a reply, in one line."""
    from sfpo_rllib.recordings.shown import printable

    line = printable(" ".join(reply.split()))
    return line if len(line) <= most else f"...{line[-most:]}"
