"""`sfpo-rllib preflight`: whether learners and engines fit their devices."""

from typing import Annotated

import typer

from sfpo_rllib.commands.output import (
    CommandError,
    JsonOption,
    end_if_it_does_not_fit,
    mendable,
    print_json,
)
from sfpo_rllib.commands.train import ConfigArgument, OverridesArgument
from sfpo_rllib.config_files import load_config, memory_of
from sfpo_rllib.core.checks import is_number

EXAMPLES = """\b
Examples:
  sfpo-rllib preflight gsm8k.yaml --device-memory-gb 80
  sfpo-rllib preflight gsm8k.yaml max_tokens_per_micro_batch=8192 --json"""


def preflight(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    device_memory_gb: Annotated[
        float | None, typer.Option(help="Of each GPU, in 10^9 bytes. Else that of the first here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Estimates the memory that learners and engines need.

    If it does not fit, the exit code is 1, but on a CPU, whose host may swap. Neither engine
    nor environment need be installed here: the devices may be elsewhere.
    """
    if device_memory_gb is not None and not is_number(device_memory_gb, above=0.0):
        raise CommandError(f"--device-memory-gb={device_memory_gb}: must be a number > 0")
    with mendable():
        memory = memory_of(load_config(config, overrides or ()), device_memory_gb=device_memory_gb)
    if json:
        print_json({"memory_bytes": memory.tables(), "memory_problems": [*memory.problems()]})
    else:
        print(memory)
    end_if_it_does_not_fit(memory)
