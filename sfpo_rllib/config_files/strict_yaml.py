"""YAML as people mean it: 1e-6 is a number, `no` is a word, and a key stands once."""

import re
from typing import Any

import yaml

# The core schema of YAML 1.2. PyYAML's is that of 1.1, where 1e-6 is a text, and so the learning
# rate of many a config; where yes, no, on and off are booleans, and 12:30 is 750.
_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """Plain values alone, by `_SCHEMA`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (as in PyYAML's own)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ValueError(f"line {line}: {key!r}: must be a name; keys are texts")
            if key in seen:
                raise ValueError(f"line {line}: {key}: stands in line {seen[key]} already")
            seen[key] = line
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        prefix = {"0o": 8, "0x": 16}.get(text[:2])
        return int(text, prefix or 10)  # 010 is 10


for _name, _pattern, _first in _SCHEMA:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for another value."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(value: Any) -> str:
    """The YAML that `parse` makes the value of again."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True
    )
    return text


def parse(text: str) -> Any:
    """The value that a YAML text stands for.

    Raises:
        ValueError: If it is no YAML, a mapping has a key twice or one that is no text, or a value
            is of a type of its own (`!!python/...`). In one line, with the line of the text.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        what = " ".join(filter(None, [error.context, error.problem]))
        raise ValueError(f"{where}{what}") from error
    except yaml.YAMLError as error:  # characters that YAML has none of
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
