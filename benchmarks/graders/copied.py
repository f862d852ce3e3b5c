r"""How many problems are solved by copying a formula of theirs, and whom the refusal hurts.

`python -m benchmarks.graders.copied math500.jsonl amc.jsonl` makes results/copied.json. Replies are
the formulas of a problem and their sides, in a box, and the worked solution where there is one.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from sfpo_envs import MathReasoningEnv
from sfpo_envs.problems.dataset import load_math_dataset
from tqdm import tqdm

from benchmarks.common import environment_record, write_json

RESULTS = Path(__file__).parent / "results"
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL)
ASKED = re.compile(r"(\\,|\\;|\\quad|\s)*=(\s|\\,)*(\\text\{)?[?_\s]*\}?$")  # ... = ?
EQUALS = re.compile(r"(?<![<>!])=")


def copies_of(problem: str) -> list[str]:
    """The formulas of a problem and their sides, each once."""
    found = []
    for match in FORMULA.finditer(problem):
        formula = next(filter(None, match.groups())).strip().rstrip(".,;?").strip()
        formula = ASKED.sub("", formula)
        found += [formula, *(side.strip(" &\n") for side in EQUALS.split(formula))]
    return [copy for copy in dict.fromkeys(found) if copy and len(copy) < 500]


def measure(path: Path) -> dict[str, Any]:
    """Counts of a file of problems with worked solutions.

    Returns:
        `problems`; `copy_is_right`, those that a copy solves if copies are accepted, and
        `copy_is_taken`, if they are refused; `solutions` that are right if copies are accepted, and
        `solutions_refused` of them.
    """
    env = MathReasoningEnv(
        str(path), prompt_template="plain", skip_blank=True, grader_settings={"timeout_s": 2}
    )
    data = load_math_dataset(path, solution_field="solution", skip_blank=True)
    solutions = dict(zip(data.problems, data.solutions, strict=True))
    counts = dict.fromkeys(
        ("problems", "copy_is_right", "copy_is_taken", "solutions", "solutions_refused"), 0
    )
    for seed in tqdm(range(env.num_problems), desc=path.name, unit="problem"):

        def verdict(reply: str, seed: int = seed) -> tuple[bool, bool]:
            """Whether a reply is right, and whether it is refused as a copy."""
            env.reset(seed=seed)
            info = env.step(reply)[-1]
            return bool(info["is_success"]), bool(info["metrics"]["copied"])

        problem = str(env.problem(seed).prompt)
        verdicts = [verdict(rf"\boxed{{{copy}}}") for copy in copies_of(problem)]
        counts["problems"] += 1
        counts["copy_is_right"] += any(map(any, verdicts))
        counts["copy_is_taken"] += any(right for right, _ in verdicts)
        if solutions[problem]:
            right, refused = verdict(solutions[problem])
            counts["solutions"] += right or refused
            counts["solutions_refused"] += refused
    return counts


def main() -> None:
    """Measures, prints and writes copied.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="with problem, answer and solution")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    sets = {path.name.partition(".")[0]: measure(path) for path in args.files}
    write_json(args.output / "copied.json", {"environment": environment_record(), "sets": sets})
    for name, counts in sets.items():
        print(name, counts)


if __name__ == "__main__":
    main()
