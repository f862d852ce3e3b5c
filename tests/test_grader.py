"""The grader: finding answers, comparing them, and surviving hostile ones."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sfpo_envs import Verdict, comparison, grade_reply
from sfpo_envs.comparison import ComparisonError, equivalent
from sfpo_envs.extraction import last_boxed, last_number

# Not decided at sight, so math-verify is asked.
SYMBOLIC = (r"\boxed{x^2 + 2x + 1}", "(x+1)^2")
HOSTILE = ["9^{9^{9^9}}", "2^{1000000000}", "((9!)!)!", r"\binom{10^9}{5 \cdot 10^8}"]


def workers_of(pid):
    """Process ids of a process's live grader workers, none of its other children (ray's, say)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue  # ended meanwhile
        if int(parent) == pid and state != "Z" and b"_comparison_worker" in command:
            found.append(int(stat.parent.name))
    return found


def wait_for(condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} wait, \boxed{ 2 }", "2"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"} stray { \boxed {7} {", "7"),
        (r"$\boxed{x}$ and \mbox{y}", "x"),
        (r"\boxed{3", None),
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        (r"\boxed 4", None),
        ("42", None),
        ("", None),
    ],
)
def test_the_last_balanced_box_counts(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 + 39 = 51", "51"),
        ("It is -7.", "-7"),
        ("x=-7", "-7"),
        ("10-7", "7"),
        ("\u22125 degrees", "-5"),
        ("$1,234.50.", "1234.50"),
        ("1, 2, 3", "3"),
        ("3/4.", "3/4"),
        ("about .5", ".5"),
        ("none", None),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    "unit", [r"\boxed{", "{", "}", "1", ",", "1,", "-", "\\", r"\boxed ", "1/"]
)
def test_extraction_takes_linear_time(unit):
    text = unit * 10**6
    started = time.perf_counter()
    last_boxed(text)
    last_number(text)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("gold", "answer", "is_right"),
    [
        ("42", "42", True),
        ("42", "043", False),
        ("10,000", "10{,}000", True),
        ("10000", r"10,\!000", True),
        ("0.5", r"\frac{1}{2}", True),
        (r"\frac12", "0.5", True),
        (r"\dfrac{3}{4}", "6/8", True),
        ("$5$", "5", True),
        ("-5", "\u22125", True),
        ("5", "x=5", True),
        ("5", "5.", True),
        ("1 1/2", "11/2", False),
        (r"\frac{1}{3}", "0.33", False),
        ("4", "4,5", False),
        ("4", r"4 \text{ or } 5", False),
        ("(1,2)", "(2,1)", False),
        (r"\left(1, 2\right)", "(1,2)", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        ("(x+1)^2", "x^2+2x+1", True),
        (r"\frac{\pi}{2}", r"\pi/2", True),
        ("90", r"90^\circ", True),
        ("6", r"6\text{ cm}", True),
        (r"\text{Evelyn}", "Evelyn", True),
        ("B", r"\text{(B)}", True),
        ("4", "exit()", False),
        ("4", "1" * 600, False),
    ],
)
def test_grading_agrees_with_a_human(gold, answer, is_right):
    expected = Verdict.CORRECT if is_right else Verdict.WRONG
    assert grade_reply(rf"\boxed{{{answer}}}", gold).verdict is expected


@pytest.mark.parametrize("gold", ["", "  ", "1" * 513])
def test_a_gold_answer_that_cannot_be_met_is_refused(gold):
    with pytest.raises(ValueError, match="gold="):
        grade_reply(r"\boxed{1}", gold)


def test_an_unknown_extraction_is_refused():
    with pytest.raises(ValueError, match=r"extraction='last'.*boxed, last_number"):
        grade_reply("1", "1", extraction="last")


def test_what_math_verify_cannot_compare_is_an_error_that_is_logged(caplog):
    assert grade_reply(r"\boxed{1}", r"\frac{1}{0}").verdict is Verdict.ERROR
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("expression", HOSTILE)
def test_a_hostile_expression_times_out_and_the_next_call_works(expression):
    equivalent("x", "y", 5)  # a worker is running: its start does not count
    started = time.monotonic()
    assert grade_reply(rf"\boxed{{{expression}}}", "42", timeout_s=0.5).verdict is Verdict.TIMEOUT
    assert time.monotonic() - started < 3
    assert grade_reply(*SYMBOLIC).verdict is Verdict.CORRECT


def test_a_worker_serves_many_comparisons():
    grade_reply(*SYMBOLIC)
    before = workers_of(os.getpid())
    for _ in range(20):
        assert grade_reply(*SYMBOLIC).verdict is Verdict.CORRECT
    assert workers_of(os.getpid()) == before


def test_workers_killed_from_outside_are_replaced():
    grade_reply(*SYMBOLIC)
    workers = workers_of(os.getpid())
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert grade_reply(*SYMBOLIC).verdict is Verdict.CORRECT
    assert not set(workers) & set(workers_of(os.getpid()))


def test_a_worker_that_dies_at_work_is_an_error_that_shows(monkeypatch):
    comparison._POOL.close()

    def die(worker, gold, answer, timeout_s):
        raise EOFError

    monkeypatch.setattr(comparison._Worker, "equivalent", die)
    assert grade_reply(*SYMBOLIC).verdict is Verdict.ERROR
    with pytest.raises(ComparisonError, match="died"):
        equivalent("x", "y", 5)


def test_an_interrupted_comparison_leaves_no_stale_answer(monkeypatch):
    equivalent("x", "x", 5)

    def interrupt(worker, timeout_s):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(comparison._Worker, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            equivalent("x", "x", 5)
    assert equivalent("x", "y", 5) is False


def test_grading_works_from_many_threads_at_once():
    def grade(number):
        assert threading.current_thread() is not threading.main_thread()
        right = grade_reply(rf"\boxed{{(x+{number})^2}}", f"x^2+{2 * number}x+{number**2}")
        wrong = grade_reply(rf"\boxed{{(x+{number})^2}}", f"x^2+{2 * number}x+{number**2 + 1}")
        return right.verdict, wrong.verdict

    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(grade, range(1, 41)))
    assert verdicts == [(Verdict.CORRECT, Verdict.WRONG)] * 40
    assert len(workers_of(os.getpid())) <= comparison._MAX_WORKERS


def test_a_forked_process_gets_workers_of_its_own():
    grade_reply(*SYMBOLIC)
    workers = set(workers_of(os.getpid()))
    code = (
        "import os\n"
        "from sfpo_envs import grade_reply\n"
        f"assert grade_reply(*{SYMBOLIC!r}).verdict == 'correct'\n"
        "pid = os.fork()\n"
        f"assert grade_reply(*{SYMBOLIC!r}).verdict == 'correct'\n"
        "if pid:\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        f"    assert grade_reply(*{SYMBOLIC!r}).verdict == 'correct'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert workers <= set(workers_of(os.getpid()))


def test_a_script_without_a_main_guard_can_grade_and_leaves_no_worker(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess\n"
        "from sfpo_envs import grade_reply\n"
        f"print(grade_reply(*{SYMBOLIC!r}).verdict)\n"
        "from sfpo_envs import comparison\n"
        "print(comparison._POOL._idle[-1]._process.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    verdict, pid = done.stdout.split()
    assert verdict == "correct"
    assert not is_running(int(pid))


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_when_its_parent_is_killed(busy):
    code = (
        "from sfpo_envs.comparison import equivalent\n"
        "equivalent('x', 'y', 5)\n"
        "print('started', flush=True)\n"
        + ("equivalent('1', '9^{9^{9^9}}', 1)\n" if busy else "input()\n")
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "started\n"
    time.sleep(0.2)  # the hostile comparison is under way
    (worker,) = workers_of(parent.pid)
    parent.kill()
    parent.communicate()
    # At work it hears of nothing, until the kernel ends it for its processor time.
    assert wait_for(lambda: not is_running(worker), timeout_s=20)


def test_a_broken_installation_is_an_exception_and_no_verdict(monkeypatch, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('antlr4 has the wrong version')")
    monkeypatch.syspath_prepend(tmp_path)
    comparison._POOL.close()
    with pytest.raises(RuntimeError, match=r"did not start: .*antlr4 has the wrong version"):
        grade_reply(*SYMBOLIC)
    assert workers_of(os.getpid()) == []
