"""Several replies to one problem: pass@k and the majority's vote."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

Same = Callable[[str, str], bool]


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 and so on up to a number, and the number itself."""
    return sorted({most, *(2**i for i in range(most.bit_length()))})


def pass_at_k(num_correct: int, num_samples: int, k: int) -> float:
    """Probability that at least one of k replies is right, without bias.

    It is the share of the sets of k among the replies that hold a right one (arXiv 2107.03374).

    Args:
        num_correct: Replies that are right.
        num_samples: All replies, at least k.
        k: How many are drawn of them.
    """
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def majority_share(answers: Sequence[str | None], right: Sequence[bool], same: Same) -> float:
    """Whether the answer that most replies give is right.

    Right answers are one candidate, as all of them are the gold answer; wrong ones are grouped by
    `same`. Replies without an answer do not vote.

    Args:
        answers: Of each reply, None if it has none.
        right: Of each reply.
        same: Whether two answers are the same one. It is asked only where that decides the vote.

    Returns:
        1 or 0; at a tie the probability that a right one is drawn among the first.
    """
    num_right = sum(right)
    wrong = Counter(
        answer
        for answer, is_right in zip(answers, right, strict=True)
        if answer is not None and not is_right
    )
    if not num_right:
        return 0.0
    if sum(wrong.values()) < num_right:  # however they are grouped
        return 1.0
    groups: list[tuple[str, int]] = []
    for answer, votes in wrong.most_common():
        for place, (first, so_far) in enumerate(groups):
            if same(first, answer):
                groups[place] = first, so_far + votes
                break
        else:
            groups.append((answer, votes))
    most = max(votes for _, votes in groups)
    if num_right != most:
        return float(num_right > most)
    return 1 / (1 + sum(votes == most for _, votes in groups))
