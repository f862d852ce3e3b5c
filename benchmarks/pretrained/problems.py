"""Short word problems, which a small chat model solves now and then."""

import json
import random
from pathlib import Path

NUM_TEST = 128

GREATEST = 10
_STORIES = (
    ("{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?", 1),
    ("{name} has {a} {things} and gives away {b}. How many {things} are left?", -1),
    ("There are {a} {things} in one box and {b} in another. How many {things} are there?", 1),
    ("There were {a} {things} and {b} were sold. How many {things} are left?", -1),
    ("{name} finds {a} {things} today and {b} tomorrow. How many {things} does {name} find?", 1),
    ("{name} needs {a} {things} and has {b}. How many {things} are missing?", -1),
    ("A shop has {a} red {things} and {b} blue ones. How many {things} does it have?", 1),
    ("Of {a} {things} {b} are old. How many {things} are new?", -1),
)
_NAMES = ("Tom", "Anna", "Ben", "Mia")
_THINGS = ("apples", "books", "coins", "eggs", "pens")


def problems() -> list[tuple[str, int]]:
    """All stories of numbers from 2 to `GREATEST`, each once, with their answers, in one order."""
    rng = random.Random(0)
    found = {}
    for story, sign in _STORIES:
        for a in range(2, GREATEST + 1):
            for b in range(2, GREATEST + 1):
                if sign < 0 and b >= a:
                    continue
                text = story.format(name=rng.choice(_NAMES), things=rng.choice(_THINGS), a=a, b=b)
                found[text] = a + sign * b
    order = list(found.items())
    rng.shuffle(order)
    return order


def write(folder: Path) -> dict[str, Path]:
    """Writes the JSONL file of each split."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = problems()
    files = {}
    for split, part in {"test": everything[:NUM_TEST], "train": everything[NUM_TEST:]}.items():
        files[split] = folder / f"{split}.jsonl"
        lines = [json.dumps({"problem": text, "answer": answer}) for text, answer in part]
        files[split].write_text("\n".join(lines))
    return files
