"""Which problems are worth sampling: solved and hopeless ones are skipped before they are sampled.

What is skipped depends on what came of the batches before, and on the seeds: never on timing.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sfpo_rllib.core.checks import number, raise_problems, value_problems
from sfpo_rllib.env_runners.problem_ids import ProblemId
from sfpo_rllib.env_runners.remote_group import Group
from sfpo_rllib.env_runners.rollout import stable_hash
from sfpo_rllib.env_runners.summary import HOPELESS, SOLVED, equal_reward_kind

_SHARE = number(least=0.0, most=1.0)


@dataclass(frozen=True)
class Curriculum:
    """Skips problems whose last groups had equal rewards (after GRESO, arXiv 2506.02177).

    A problem whose last n groups were all solved, by all members, is sampled with probability
    max(p^n, `least_chance`) when its turn comes, and skipped otherwise. p, the exploration of
    solved problems, begins at `exploration`; each batch in which more than `solved_target` of the
    groups were solved lowers it by `step`, any other raises it. The same goes for hopeless
    problems, those that no member solves, with a p of their own. One group of unequal rewards, and
    the problem is sampled whenever its turn comes.

    The environment must say which problem a seed shows: see `problem_id` in the docs.

    Attributes:
        solved_target: Share of the sampled groups that may be solved by all members.
        hopeless_target: Share that may be solved by none.
        exploration: The p of both to begin with.
        step: How far p moves a batch.
        least_chance: The lowest probability that a problem is sampled with, and the lowest p: so
            each comes back, and on average no more than 1 / `least_chance` seeds are looked at
            for one that is sampled.
    """

    solved_target: float = 1 / 12
    hopeless_target: float = 1 / 6
    exploration: float = 0.5
    step: float = 0.01
    least_chance: float = 0.05

    def __post_init__(self) -> None:
        raise_problems(self.problems())

    def problems(self) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        names = ("solved_target", "hopeless_target", "exploration", "step")
        kinds = {**dict.fromkeys(names, _SHARE), "least_chance": number(least=0.001, most=1.0)}
        problems = value_problems(self, kinds)
        if not problems and self.exploration < self.least_chance:
            problems.append(
                f"exploration={self.exploration!r}: must be at least "
                f"least_chance={self.least_chance!r}"
            )
        return problems


class ProblemChooser:
    """Decides for one seed after the other whether its problem is sampled, and learns of groups.

    Attributes:
        counts: Problems skipped since somebody cleared them, by kind.
        shares: Of the last batch, the share of solved and of hopeless groups.
        exploration: Today's p, by kind.
    """

    def __init__(
        self,
        settings: Curriculum,
        problem_id: Callable[[int], ProblemId | None],
        kind_of: Callable[[Group], str | None] = equal_reward_kind,
    ) -> None:
        """Initializes a chooser that has seen nothing, and so skips nothing.

        Args:
            settings: How it decides.
            problem_id: Which problem a seed shows; None: one that does not come again.
            kind_of: `SOLVED`, `HOPELESS` or, for a group that carries a gradient, None.
        """
        self._settings = settings
        self._problem_id = problem_id
        self._kind_of = kind_of
        self.counts: Counter[str] = Counter()
        self.shares = dict.fromkeys((SOLVED, HOPELESS), 0.0)
        self.exploration = dict.fromkeys((SOLVED, HOPELESS), settings.exploration)
        # Of problems whose last group had equal rewards: the kind, and how often in a row.
        self._in_a_row: dict[ProblemId, tuple[str, int]] = {}

    def chance(self, problem: ProblemId | None) -> float:
        """The probability that a problem is sampled when its turn comes."""
        if problem is None or problem not in self._in_a_row:
            return 1.0
        kind, count = self._in_a_row[problem]
        return float(max(self.exploration[kind] ** count, self._settings.least_chance))

    def skips(self, run_seed: int, seed: int) -> bool:
        """Whether a seed's problem is to be skipped; counts it if so.

        Args:
            run_seed: What the draw depends on, besides the seed.
            seed: The problem's.
        """
        problem = self._problem_id(seed)
        drawn = stable_hash("curriculum", run_seed, seed) / 2**63
        if drawn < self.chance(problem):
            return False
        assert problem is not None  # whose chance is 1
        self.counts[self._in_a_row[problem][0]] += 1
        return True

    def learn(self, groups: Iterable[tuple[int, Group]]) -> None:
        """Takes what came of a batch, in order.

        Args:
            groups: By seed, those that were replaced included.
        """
        kinds: list[str | None] = []
        for seed, group in groups:
            kind, problem = self._kind_of(group), self._problem_id(seed)
            kinds.append(kind)
            if problem is None:
                continue
            before, count = self._in_a_row.pop(problem, (None, 0))
            if kind is not None:
                self._in_a_row[problem] = kind, 1 + (count if kind == before else 0)
        if not kinds:
            return
        settings = self._settings
        targets = {SOLVED: settings.solved_target, HOPELESS: settings.hopeless_target}
        for kind, target in targets.items():
            self.shares[kind] = share = kinds.count(kind) / len(kinds)
            moved = self.exploration[kind] + (-settings.step if share > target else settings.step)
            self.exploration[kind] = min(max(moved, settings.least_chance), 1.0)

    def metrics(self) -> dict[str, float]:
        """What it has done, by name."""
        return {
            **{f"num_problems_skipped/{kind}": self.counts[kind] for kind in self.shares},
            **{f"equal_reward_share/{kind}": share for kind, share in self.shares.items()},
            **{f"exploration/{kind}": p for kind, p in self.exploration.items()},
        }

    def get_state(self) -> dict[str, Any]:
        """What it has learned, to go on from."""
        return {
            "in_a_row": [[problem, *record] for problem, record in self._in_a_row.items()],
            "exploration": dict(self.exploration),
        }

    def set_state(self, state: dict[str, Any] | None) -> None:
        """Goes on from `get_state()`; None: begins anew."""
        if state is None:
            state = {
                "in_a_row": [],
                "exploration": dict.fromkeys(self.exploration, self._settings.exploration),
            }
        self._in_a_row = {problem: (kind, n) for problem, kind, n in state["in_a_row"]}
        self.exploration = dict(state["exploration"])

    def snapshot(self) -> Callable[[], None]:
        """Remembers all of it; what is returned goes back there."""
        now = copy.deepcopy((self._in_a_row, self.exploration, self.shares, self.counts))

        def go_back() -> None:
            self._in_a_row, self.exploration, self.shares, self.counts = copy.deepcopy(now)

        return go_back
