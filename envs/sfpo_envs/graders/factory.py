"""Making a grader of its name and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sfpo_envs.graders.custom import CustomGrader
from sfpo_envs.graders.exact import ExactGrader
from sfpo_envs.graders.grade import Grade, Grader
from sfpo_envs.graders.math_grader import MathGrader
from sfpo_envs.graders.multiple_choice import MultipleChoiceGrader
from sfpo_envs.graders.numeric import NumericGrader
from sfpo_envs.options import instead

GRADERS: dict[str, Callable[..., Grader]] = {
    "math": MathGrader,
    "exact": ExactGrader,
    "numeric": NumericGrader,
    "multiple_choice": MultipleChoiceGrader,
}
"""The graders that have a name."""


def make_grader(
    grader: str | Callable[[str, str], Grade | bool | float] = "math", **settings: Any
) -> Grader:
    """Make a grader.

    Args:
        grader: A key of :data:`GRADERS`, or a function of reply and gold answer that returns a
            grade, a bool, or a number of which 0.5 and more mean a right answer.
        **settings: Fields of the named grader's class. A function takes ``timeout_s`` alone.

    Raises:
        ValueError: No grader has this name, or a setting is unknown or out of its range.
        TypeError: ``grader`` is neither a name nor a function, or a function with other settings.
    """
    if callable(grader):
        if others := settings.keys() - {"timeout_s"}:
            raise TypeError(
                f"{', '.join(sorted(others))}: a grader that is a function takes no settings but "
                "timeout_s; functools.partial binds them to it"
            )
        return CustomGrader(grader, **settings)
    if not isinstance(grader, str):
        raise TypeError(f"grader={grader!r}: must be a name or a function")
    if grader not in GRADERS:
        raise ValueError(f"grader={grader!r}: {instead(grader, GRADERS)}")
    kind = GRADERS[grader]
    known = [field.name for field in dataclasses.fields(kind) if field.init]  # type: ignore[arg-type]
    for name in settings:
        if name not in known:
            raise ValueError(f"{name}: no setting of grader {grader!r}; {instead(name, known)}")
    return kind(**settings)
