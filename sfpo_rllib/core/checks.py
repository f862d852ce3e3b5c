"""Checks of settings: what a value must be, and how it is said that it is not.

Every problem is `field=value: what would be right`. Settings list all of theirs in `problems()`.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

Settings = TypeVar("Settings", bound=Any)


def is_int(value: Any, least: float = -math.inf) -> bool:
    """Whether it is an integer, and no less."""
    # numpy's are of `numbers`, but for its truth values.
    is_one = isinstance(value, Integral) and not isinstance(value, bool)
    return is_one and bool(value >= least)


def is_number(
    value: Any, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> bool:
    """Whether it is a finite number within the bounds."""
    is_one = isinstance(value, Real) and not isinstance(value, bool)
    try:
        return is_one and math.isfinite(value) and bool(above < value and least <= value <= most)
    except OverflowError:  # an integer that no float holds
        return False


@dataclass(frozen=True)
class Kind:
    """A kind of value; `a | b` is either.

    Attributes:
        holds: Whether a value is of it.
        words: What it is, after "must be".
        hint: What else to say of a value that is not.
    """

    holds: Callable[[Any], bool]
    words: str
    hint: Callable[[Any], str] = lambda value: ""

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(
            lambda value: self.holds(value) or other.holds(value),
            f"{self.words} or {other.words}",
            lambda value: self.hint(value) or other.hint(value),
        )


def integer(least: int, unit: str = "") -> Kind:
    """An integer, and no less."""
    return Kind(lambda value: is_int(value, least), f"an integer >= {least}{unit}")


def number(
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    unit: str = "",
) -> Kind:
    """A finite number within bounds that are given."""
    bounds = {
        name: bound
        for name, bound in (("least", least), ("above", above), ("most", most))
        if bound is not None
    }
    words = f" >= {least:g}" if least is not None else ""
    words = f" > {above:g}" if above is not None else words
    if most is not None:
        words = f" in {'[' if above is None else '('}{least or above or 0:g}, {most:g}]"
    return Kind(lambda value: is_number(value, **bounds), f"a number{words}{unit}")


def one_of(*names: Any) -> Kind:
    """One of some values."""
    words = repr(names[0]) if len(names) == 1 else f"one of {list(names)}"
    return Kind(
        # Not 1 for True, nor what compares element by element.
        lambda value: any(isinstance(value, type(name)) and value == name for name in names),
        words,
        lambda value: nearest(value, names),
    )


def none(meaning: str = "") -> Kind:
    """None."""
    return Kind(lambda value: value is None, f"None{f' ({meaning})' if meaning else ''}")


BOOL = Kind(lambda value: isinstance(value, bool), "True or False")
DICT = Kind(lambda value: isinstance(value, Mapping), "a dict")
FUNCTION = Kind(callable, "a function")


def value_problems(settings: Any, kinds: Mapping[str, Kind], within: str = "") -> list[str]:
    """Which attributes, or items of a mapping, are not of their kind.

    Args:
        settings: What has them.
        kinds: By name.
        within: What setting the mapping is.
    """
    problems = []
    for name, kind in kinds.items():
        value = settings[name] if isinstance(settings, Mapping) else getattr(settings, name)
        if not kind.holds(value):
            field = f"{within}[{name!r}]" if within else name
            problems.append(f"{field}={value!r}: must be {kind.words}{kind.hint(value)}")
    return problems


def name_problems(
    given: Mapping[str, Any], known: Iterable[str], within: str, what: str = "setting"
) -> list[str]:
    """Which keys of a setting that is a mapping are not known."""
    names = sorted(known)
    return [
        f"{within}[{key!r}]={value!r}: no such {what}{nearest(key, names)}; one of {names}"
        for key, value in given.items()
        if key not in names
    ]


def same(value: Any, other: Any) -> bool:
    """Whether two values are equal, as far as can be told."""
    try:
        return value is other or bool(value == other)
    except Exception:  # what compares element by element
        return False


def nearest(name: Any, known: Iterable[Any]) -> str:
    """`; did you mean 'x'?` if a known name is near, else nothing."""
    match = difflib.get_close_matches(str(name), [k for k in known if isinstance(k, str)], n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def renamed(problems: Iterable[str], **names: str) -> list[str]:
    """Problems under what their fields are called where they were given."""
    parts = (problem.partition("=") for problem in problems)
    return [f"{names.get(field, field)}{sign}{rest}" for field, sign, rest in parts]


def of_attributes(cls: type[Settings], source: Any, **given: Any) -> Settings:
    """Settings with the attributes of the same names of something that has them flat."""
    names = [field.name for field in dataclasses.fields(cls) if field.name not in given]
    return cls(**{name: getattr(source, name) for name in names}, **given)


def raise_problems(problems: Iterable[str], *, of: str | None = None) -> None:
    """Raises one ValueError that lists all, under whose they are; nothing if there are none."""
    lines = list(problems)
    if lines:
        raise ValueError("\n".join([*([f"{of}: invalid settings"] if of else []), *lines]))


def problems_of(make: Callable[[], Any]) -> list[str]:
    """What something is refused for when it is made: the lines of its ValueError."""
    try:
        make()
    except ValueError as error:
        return str(error).splitlines()
    return []


def first_line(text: Any) -> str:
    """Of a text or an error, which may have none."""
    return next(iter(str(text).strip().splitlines()), "")
