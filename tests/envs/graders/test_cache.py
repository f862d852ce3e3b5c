"""The memory of comparisons that all graders of a process share."""

import os
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from sfpo_envs import make_grader
from sfpo_envs.graders import math_grader
from sfpo_envs.graders.cache import ResultCache
from sfpo_envs.graders.pool import ComparisonError, UngradableGoldError
from sfpo_envs.math_reasoning import MathReasoningEnv

SYMBOLIC = (r"\boxed{x^2 + 2x + 1}", "(x+1)^2")


class Comparisons:
    """Stands in for math-verify: counts what it is asked, and waits until it may end."""

    def __init__(self):
        self.asked = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, gold, answer, timeout_s, memory_mb):
        self.asked.append(answer)
        assert self.may_end.wait(60)
        return True


@pytest.fixture
def comparisons(monkeypatch):
    math_grader.COMPARISONS.clear()
    comparisons = Comparisons()
    monkeypatch.setattr(math_grader, "equivalent", comparisons)
    yield comparisons
    math_grader.COMPARISONS.clear()


def together(calls):
    """Call all from threads of their own."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def test_a_group_of_equal_replies_costs_one_comparison_over_its_environments(comparisons, tmp_path):
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"problem": "Square x + 1.", "answer": "(x+1)^2"}\n')
    group = [MathReasoningEnv(problems) for _ in range(8)]
    for env in group:
        env.reset(seed=0)
        assert env.step(f"So it is {SYMBOLIC[0]}.")[1] == 1.0
    assert len(comparisons.asked) == 1


def test_equal_replies_that_are_graded_at_once_cost_one_comparison(comparisons):
    comparisons.may_end.clear()
    threading.Timer(0.5, comparisons.may_end.set).start()
    graders = [make_grader("math") for _ in range(8)]
    grades = together([lambda grader=grader: grader(*SYMBOLIC) for grader in graders])
    assert {grade.verdict for grade in grades} == {"correct"}
    assert len(comparisons.asked) == 1


def test_what_the_result_depends_on_is_told_apart(comparisons):
    reply, gold = SYMBOLIC
    make_grader("math")(reply, gold)
    make_grader("math")(reply, gold + "+x")
    make_grader("math")(r"\boxed{x}", gold)
    make_grader("math", timeout_s=1)(reply, gold)
    make_grader("math", memory_mb=512)(reply, gold)
    assert len(comparisons.asked) == 5


def test_a_grader_without_a_cache_always_compares(comparisons):
    make_grader("math")(*SYMBOLIC)
    for _ in range(2):
        make_grader("math", cache_size=0)(*SYMBOLIC)
    assert len(comparisons.asked) == 3


def test_a_copy_of_a_grader_shares_the_cache(comparisons):
    grader = make_grader("math")
    grader(*SYMBOLIC)
    pickle.loads(pickle.dumps(grader))(*SYMBOLIC)
    assert len(comparisons.asked) == 1


@pytest.mark.parametrize("error", [TimeoutError, ComparisonError, UngradableGoldError])
def test_what_came_to_no_verdict_is_asked_again(comparisons, monkeypatch, error):
    outcomes = iter([error("first"), True])

    def fail_once(*request):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(math_grader, "equivalent", fail_once)
    grader = make_grader("math")
    first = grader(*SYMBOLIC).verdict
    assert first in ("timed_out", "crashed", "ungradable_gold")
    assert grader(*SYMBOLIC).verdict == "correct"


def test_the_cache_holds_the_largest_number_asked_for(comparisons):
    def grade_20(**settings):
        for number in range(20):
            make_grader("math", **settings)(rf"\boxed{{x^{{{number}}}}}", "y")
        return len(math_grader.COMPARISONS)

    assert grade_20(cache_size=5) == 5
    assert grade_20(cache_size=12) == 12
    assert grade_20(cache_size=5) == 12


def test_what_was_used_last_is_kept():
    cache, computed = ResultCache(), []

    def ask(name):
        return cache.get((name,), lambda: computed.append(name) or True, size=2)

    for name in "abacab":
        ask(name)
    assert computed == list("abcb")


def test_an_entry_is_small_however_long_its_texts():
    cache = ResultCache()
    tracemalloc.start()
    try:
        for number in range(1000):
            cache.get((f"{number} \ud800" + "x" * 4096, "y" * 4096), lambda: True, size=1000)
        assert len(cache) == 1000
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_who_waits_for_a_comparison_learns_of_its_failure_and_of_no_interrupt():
    cache, started, may_end = ResultCache(), threading.Event(), threading.Event()

    def fail_with(error):
        started.set()
        assert may_end.wait(60)
        raise error

    def outcome(compute):
        try:
            return cache.get(("x",), compute, size=1)
        except BaseException as error:
            return type(error)

    for error, second in ((TimeoutError, TimeoutError), (KeyboardInterrupt, True)):
        started.clear(), may_end.clear()
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(outcome, lambda error=error: fail_with(error))
            assert started.wait(60)
            threading.Timer(0.5, may_end.set).start()
            assert outcome(lambda: True) == second
            assert first.result(60) == error


def test_a_forked_process_does_not_wait_for_its_parents_comparison():
    cache, started, may_end = ResultCache(), threading.Event(), threading.Event()
    parents = threading.Thread(
        target=lambda: cache.get(("x",), lambda: bool(started.set() or may_end.wait(60)), size=1)
    )
    parents.start()
    assert started.wait(60)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if cache.get(("x",), lambda: True, size=1) else 1)
    try:
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        may_end.set()
        parents.join()
