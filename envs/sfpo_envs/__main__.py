"""The command line: ``python -m sfpo_envs check <id>`` and ``python -m sfpo_envs list``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from sfpo_envs import plugins
from sfpo_envs.check import Episode, check_text_env, show_episodes

_EXAMPLE = """example:
  %(prog)s sfpo/Arithmetic-v0 --config '{"num_digits": 3}' --show 3"""


class _Parser(argparse.ArgumentParser):
    """One whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None, program: str = "python -m sfpo_envs") -> int:
    """Run a command.

    Args:
        arguments: By default those of the process.
        program: What the user has called.

    Returns:
        The exit status: 1 if the check found errors, else 0.
    """
    parser = _Parser(prog=program, description="List environments, and check one.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check",
        help="check that an environment can be trained on",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("id", help="such as sfpo/Arithmetic-v0 or my_package:mine/Task-v0")
    check.add_argument(
        "--config", type=_config, default={}, metavar="JSON", help="its options, as an object"
    )
    check.add_argument(
        "--seeds", type=_positive(int), default=16, help="how many problems to look at"
    )
    check.add_argument(
        "--show",
        type=_positive(int, 0),
        default=0,
        metavar="N",
        help="show N problems, each with a reply",
    )
    check.add_argument(
        "--max-turns", type=_positive(int), default=64, help="replies in an episode, at most"
    )
    check.add_argument(
        "--call-limit",
        type=_positive(float),
        default=60.0,
        metavar="SECONDS",
        help="what a reset or a step may take before it counts as hanging",
    )
    check.add_argument(
        "--reward-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="what rewards may be"
    )
    listed = commands.add_parser(
        "list", help="list the environments of this package and of plug-ins"
    )
    for command in (check, listed):
        command.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    options = parser.parse_args(arguments)
    return _list(options) if options.command == "list" else _check(options)


def _check(options: argparse.Namespace) -> int:
    started = time.perf_counter()
    findings = check_text_env(
        options.id,
        config=options.config,
        num_seeds=options.seeds,
        max_turns=options.max_turns,
        reward_range=options.reward_range and tuple(options.reward_range),
        call_limit_s=options.call_limit,
    )
    seconds = time.perf_counter() - started
    episodes: list[Episode] = []
    if options.show and not any(finding.check in ("make", "hang") for finding in findings):
        episodes = show_episodes(
            options.id, options.show, config=options.config, max_turns=options.max_turns
        )
    if options.json:
        result = {
            "id": options.id,
            "errors": len(findings.errors),
            "warnings": len(findings.warnings),
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "episodes": [dataclasses.asdict(episode) for episode in episodes],
            "seconds": round(seconds, 1),
        }
        print(json.dumps(result, indent=2, default=str))
    else:
        for told in (*episodes, *findings):
            print(told)
        numbers = f"{len(findings.errors)} errors, {len(findings.warnings)} warnings"
        print(f"{options.id}: {numbers} ({seconds:.1f} s)")
    return 1 if findings.errors else 0


def _list(options: argparse.Namespace) -> int:
    # Importing the package has registered its own.
    ours = {name for name, spec in gymnasium.registry.items() if spec.namespace == "sfpo"}
    known = set(gymnasium.registry)
    failed = plugins.load()
    names = sorted(ours | (set(gymnasium.registry) - known))
    summaries = {name: _summary(gymnasium.registry[name]) for name in names}
    if options.json:
        print(json.dumps([{"id": name, "what": summaries[name]} for name in names], indent=2))
    else:
        width = max(map(len, names))
        for name in names:
            print(f"{name:{width}}  {summaries[name]}")
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


def _positive(kind: Callable[[str], float], least: int = 1) -> Callable[[str], float]:
    """Return a reader of numbers that are not too small."""
    what = "an integer" if kind is int else "a number"
    bound = f">= {least}" if kind is int else "> 0"

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (value >= least if kind is int else 0 < value < float("inf")):
            raise argparse.ArgumentTypeError(f"{text!r}: must be {what} {bound}")
        return value

    return read


if __name__ == "__main__":
    sys.exit(main())
