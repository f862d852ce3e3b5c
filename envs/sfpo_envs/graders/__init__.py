"""Graders: functions that judge a reply by the gold answer of its problem.

:func:`make_grader` makes one of its name or of a function. All are safe to use from many threads,
and from async code through ``asyncio.to_thread``.
"""

from sfpo_envs.graders.extraction import EXTRACTORS
from sfpo_envs.graders.factory import GRADERS, make_grader
from sfpo_envs.graders.grade import Grade, Grader, Verdict, check_gold

__all__ = [
    "EXTRACTORS",
    "GRADERS",
    "Grade",
    "Grader",
    "Verdict",
    "check_gold",
    "make_grader",
]
