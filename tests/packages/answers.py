"""Checking that an answer is right or wrong wherever it stands in a reply."""

from sfpo_envs import Verdict, make_grader

PATIENT = 60  # on a busy machine anything may take a while
boxed = make_grader("math", timeout_s=PATIENT)
whole = make_grader("math", extraction="whole", timeout_s=PATIENT)


def verdicts(gold, answer):
    """Of a box, of the answer as the whole reply, and of a sentence with it."""
    found = [boxed(rf"So \boxed{{{answer}}}.", gold).verdict, whole(answer, gold).verdict]
    if "$" not in answer:
        found.append(whole(f"Hence the answer is ${answer}$.", gold).verdict)
    return set(found)


def check(gold, right, wrong):
    """Check answers by any place they may have."""
    for answers, verdict in ((right, Verdict.CORRECT), (wrong, Verdict.WRONG)):
        for answer in answers:
            assert verdicts(gold, answer) == {verdict}, (gold, answer)
