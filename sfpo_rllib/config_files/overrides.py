"""Settings on the command line: `lr=1e-6`, `env_config.num_digits=3`."""

from collections.abc import Iterable, Mapping
from typing import Any

from sfpo_rllib.config_files.strict_yaml import parse

Override = tuple[list[str], Any]


def parse_override(text: str) -> Override:
    """The path and the value of `a.b=value`, whose value is YAML.

    Raises:
        ValueError: If it is not of that form.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ValueError(f"{text!r}: must be key=value, e.g. lr=1e-6 or env_config.num_digits=3")
    try:
        return keys, parse(value)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; quote a text, as in key='\"a: b\"'") from error


def with_overrides(settings: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Settings with values put into them, in order; dicts on the way are made or copied.

    Raises:
        ValueError: If a path goes through what is no dict.
    """
    result = dict(settings)
    for keys, value in overrides:
        place = result
        for depth, key in enumerate(keys[:-1], start=1):
            inner = {} if place.get(key) is None else place[key]
            if not isinstance(inner, Mapping):
                name = ".".join(keys[:depth])
                raise ValueError(f"{name}={inner!r}: must be a dict to have a {keys[depth]!r}")
            place[key] = dict(inner)
            place = place[key]
        place[keys[-1]] = value
    return result
