"""`sfpo-rllib envs`: the commands of `python -m sfpo_envs`, under this name."""

import typer

from sfpo_rllib.core.registry import imported


def envs(context: typer.Context) -> None:
    """Lists environments, and checks one."""
    commands = imported("sfpo_envs.__main__:main")
    raise typer.Exit(commands(context.args, program="sfpo-rllib envs"))
