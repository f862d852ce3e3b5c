"""Evaluation sets of the field by name: on the Hugging Face hub, or as local files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sfpo_envs.problems.rows import HubDataset, LocalFile

DATA_DIR_VARIABLE = "SFPO_DATA_DIR"
"""Environment variable that stands in for ``data_dir`` where that is not given."""

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class Fields:
    """Which fields of a row are read.

    Attributes:
        problem: Field with the problem.
        answer: Field with the answer.
        answer_pattern: How the answer is found in its field; ``None`` if it is the whole field.
        solution: Field with a worked solution; ``None`` if there is none.
    """

    problem: str = "problem"
    answer: str = "answer"
    answer_pattern: str | None = None
    solution: str | None = None


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set.

    Attributes:
        hub: Where it is on the hub.
        fields: Which fields it has there. Local files have ``problem`` and ``answer``.
        files: Names that a local file of it may have, suffixes aside.
    """

    hub: HubDataset
    fields: Fields
    files: tuple[str, ...]

    def local_file(self, folder: Path) -> LocalFile:
        """Return its file in a folder.

        Raises:
            ValueError: There is none.
        """
        names = [name + suffix for name in self.files for suffix in _SUFFIXES]
        for name in names:
            if (folder / name).is_file():
                return LocalFile.at(folder / name)
        raise ValueError(
            f"data_dir={str(folder)!r}: has none of {', '.join(names)}; without data_dir and "
            f"{DATA_DIR_VARIABLE}, {self.hub} is loaded from the Hugging Face hub"
        )


EVAL_SETS: Mapping[str, EvalSet] = MappingProxyType(
    {
        "gsm8k": EvalSet(
            HubDataset("openai/gsm8k", "main", "test"),
            Fields("question", "answer", answer_pattern="hashes"),
            ("gsm8k", "gsm8k_test"),
        ),
        "math500": EvalSet(
            HubDataset("HuggingFaceH4/MATH-500", split="test"), Fields(), ("math500",)
        ),
        "aime24": EvalSet(
            HubDataset("HuggingFaceH4/aime_2024", split="train"), Fields(), ("aime24",)
        ),
        "aime25": EvalSet(HubDataset("MathArena/aime_2025", split="train"), Fields(), ("aime25",)),
        "amc": EvalSet(HubDataset("AI-MO/aimo-validation-amc", split="train"), Fields(), ("amc",)),
        "minerva": EvalSet(
            HubDataset("math-ai/minervamath", split="test"),
            Fields("question", "answer"),
            ("minerva", "minerva_math"),
        ),
        "olympiadbench": EvalSet(
            HubDataset("math-ai/olympiadbench", split="test"),
            Fields("question", "final_answer.0"),
            ("olympiadbench",),
        ),
    }
)
"""The evaluation sets by name."""


def find_eval_set(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> tuple[LocalFile | HubDataset, Fields]:
    """Return where an evaluation set is, and which of its fields to read.

    Args:
        name: A key of :data:`EVAL_SETS`.
        data_dir: Folder of local files; ``None`` is the one that the environment variable
            ``SFPO_DATA_DIR`` names, or the hub if there is no such variable.

    Raises:
        ValueError: The folder has no file of this set.
    """
    eval_set = EVAL_SETS[name]
    folder = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if folder:
        return eval_set.local_file(Path(folder).expanduser()), Fields()
    return eval_set.hub, eval_set.fields
