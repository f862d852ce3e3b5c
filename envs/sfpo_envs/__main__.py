"""The command line: ``python -m sfpo_envs check <id>`` and ``python -m sfpo_envs list``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from sfpo_envs import plugins
from sfpo_envs.check import check_text_env


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit status: 1 if the check found errors, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m sfpo_envs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check that an environment can be trained on")
    check.add_argument("id", help="such as sfpo/Arithmetic-v0 or my_package:mine/Task-v0")
    check.add_argument(
        "--config", type=_config, default={}, metavar="JSON", help="its options, as an object"
    )
    check.add_argument("--seeds", type=int, default=16, help="how many problems to look at")
    check.add_argument("--max-turns", type=int, default=64, help="replies in an episode, at most")
    check.add_argument(
        "--reward-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="what rewards may be"
    )
    commands.add_parser("list", help="list the environments of this package and of plug-ins")
    options = parser.parse_args(arguments)
    return _list() if options.command == "list" else _check(options)


def _check(options: argparse.Namespace) -> int:
    started = time.perf_counter()
    findings = check_text_env(
        options.id,
        config=options.config,
        num_seeds=options.seeds,
        max_turns=options.max_turns,
        reward_range=options.reward_range and tuple(options.reward_range),
    )
    for finding in findings:
        print(finding)
    seconds = time.perf_counter() - started
    numbers = f"{len(findings.errors)} errors, {len(findings.warnings)} warnings"
    print(f"{options.id}: {numbers} ({seconds:.1f} s)")
    return 1 if findings.errors else 0


def _list() -> int:
    # Importing the package has registered its own.
    ours = {name for name, spec in gymnasium.registry.items() if spec.namespace == "sfpo"}
    known = set(gymnasium.registry)
    failed = plugins.load()
    names = sorted(ours | (set(gymnasium.registry) - known))
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {_summary(gymnasium.registry[name])}")
    for plugin in failed:
        print(plugin, file=sys.stderr)
    return 0


def _summary(spec: EnvSpec) -> str:
    """Return the first line of an environment's docstring."""
    creator: Any = spec.entry_point
    try:
        if isinstance(creator, str):
            creator = load_env_creator(creator)
    except Exception as error:
        return f"cannot be imported: {error!r}"
    return (creator.__doc__ or "").strip().partition("\n")[0]


def _config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return config


if __name__ == "__main__":
    sys.exit(main())
