"""The worker processes of the grader."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders import pool
from sfpo_envs.graders.pool import ComparisonError, equivalent

PATIENT = 60  # on a busy machine anything may take a while
# Not decided at sight, so math-verify is asked.
SYMBOLIC = (r"\boxed{x^2 + 2x + 1}", "(x+1)^2")
grade = make_grader("math", cache_size=0, timeout_s=PATIENT)
HOSTILE = ["9^{9^{9^9}}", "2^{1000000000}", "((9!)!)!", r"\binom{10^9}{5 \cdot 10^8}"]


def children_of(pid):
    """Process ids of a process's live children that run the worker's script, of no others."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue  # ended meanwhile
        if int(parent) == pid and state != "Z" and b"graders/_worker.py" in command:
            found.append(int(stat.parent.name))
    return found


def workers_of(pid):
    """Process ids of a process's live grader workers, forks of its one child."""
    return [worker for template in children_of(pid) for worker in children_of(template)]


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


@pytest.mark.parametrize("expression", HOSTILE)
def test_a_hostile_expression_times_out_and_the_next_call_works(expression):
    equivalent("$x$", "$y$", PATIENT)  # a worker is running: its start does not count
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        equivalent("$42$", f"${expression}$", 0.5)
    assert time.monotonic() - started < 15  # twice the time and a start, if the machine is busy
    assert grade(*SYMBOLIC).verdict is Verdict.CORRECT


def test_a_worker_serves_many_comparisons():
    grade(*SYMBOLIC)
    before = workers_of(os.getpid())
    for _ in range(20):
        assert grade(*SYMBOLIC).verdict is Verdict.CORRECT
    assert workers_of(os.getpid()) == before


def test_workers_killed_from_outside_are_replaced():
    grade(*SYMBOLIC)
    workers = workers_of(os.getpid())
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert grade(*SYMBOLIC).verdict is Verdict.CORRECT
    assert not set(workers) & set(workers_of(os.getpid()))


@pytest.mark.parametrize("with_workers", [False, True])
def test_what_workers_are_forks_of_is_replaced_too(with_workers):
    grade(*SYMBOLIC)
    (template,) = children_of(os.getpid())
    for pid in [template, *(workers_of(os.getpid()) if with_workers else [])]:
        os.kill(pid, signal.SIGKILL)
    with ThreadPoolExecutor(4) as threads:
        verdicts = [threads.submit(grade, *SYMBOLIC) for _ in range(4)]
    assert {verdict.result().verdict for verdict in verdicts} == {Verdict.CORRECT}
    with pytest.raises(TimeoutError):
        equivalent("$42$", "$9^{9^{9^9}}$", 0.5)
    assert grade(*SYMBOLIC).verdict is Verdict.CORRECT


def test_a_killed_worker_is_replaced_by_a_fork_and_leaves_no_zombie():
    equivalent("$x$", "$y$", PATIENT)
    templates = children_of(os.getpid())
    for _ in range(3):
        with pytest.raises(TimeoutError):
            equivalent("$42$", "$9^{9^{9^9}}$", 0.3)
        assert equivalent("$x$", "$y$", PATIENT) is False
    assert children_of(os.getpid()) == templates
    children = Path(f"/proc/{templates[0]}/task/{templates[0]}/children").read_text().split()
    assert all(is_running(int(pid)) for pid in children)


def test_an_interrupt_while_a_worker_starts_harms_no_later_one(monkeypatch):
    pool._POOL.close()
    equivalent("$x$", "$y$", PATIENT)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    while pool._POOL._idle:
        pool._POOL._idle.pop().kill()
    with monkeypatch.context() as patch:
        patch.setattr(pool, "send_handle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            equivalent("$x$", "$y$", PATIENT)
    assert equivalent("$x$", "$x$", PATIENT) is True


def test_a_worker_that_dies_at_work_is_an_error_that_shows(monkeypatch):
    pool._POOL.close()

    def die(worker, request):
        raise EOFError

    monkeypatch.setattr(pool._Worker, "equivalent", die)
    assert grade(*SYMBOLIC).verdict is Verdict.CRASHED
    with pytest.raises(ComparisonError, match="died"):
        equivalent("$x$", "$y$", PATIENT)


def test_the_start_of_a_worker_does_not_count():
    pool._POOL.close()
    started = time.monotonic()
    assert equivalent("$(x+1)^2$", "$x^2+2x+1$", 0.25)
    assert time.monotonic() - started > 0.25  # without the start there would be nothing to see


def test_a_comparison_that_got_no_processor_is_asked_once_more(caplog):
    equivalent("$x$", "$x$", PATIENT)
    asleep = pool.idle_workers()[-1]  # the next to be asked
    os.kill(asleep, signal.SIGSTOP)
    grade = make_grader("math", cache_size=0, timeout_s=2)
    assert grade(*SYMBOLIC).verdict is Verdict.CORRECT
    assert caplog.text.count("asked once more") == 1
    assert not is_running(asleep)


@pytest.mark.parametrize(("share_of_cpu", "times"), [(0.0, 2), (0.4, 2), (0.6, 1), (1.0, 1)])
def test_a_time_out_counts_at_once_if_the_worker_was_at_work(monkeypatch, share_of_cpu, times):
    asked = []

    def time_out(connection, timeout_s):
        if timeout_s != pool._START_TIMEOUT_S:
            asked.append(timeout_s)
            raise TimeoutError
        return receive(connection, timeout_s)

    receive = pool._receive
    monkeypatch.setattr(pool, "_receive", time_out)
    monkeypatch.setattr(pool._Worker, "_cpu_seconds", lambda worker: len(asked) * share_of_cpu)
    assert make_grader("math", cache_size=0, timeout_s=1)(*SYMBOLIC).verdict is Verdict.TIMED_OUT
    assert asked == [1] * times


def test_where_nobody_knows_the_processor_time_a_time_out_counts_at_once(monkeypatch):
    monkeypatch.setattr(pool, "Path", lambda path: Path("/nowhere"))
    equivalent("$x$", "$x$", PATIENT)
    asked = []
    ask = pool._Worker.equivalent
    monkeypatch.setattr(
        pool._Worker, "equivalent", lambda *given: asked.append(given) or ask(*given)
    )
    with pytest.raises(TimeoutError):
        equivalent("$42$", "$9^{9^{9^9}}$", 0.2)
    assert len(asked) == 1


def test_a_worker_that_the_kernel_ends_for_its_time_has_timed_out():
    equivalent("$x$", "$x$", PATIENT)
    with ThreadPoolExecutor(1) as threads:
        hostile = threads.submit(equivalent, "$42$", "$9^{9^{9^9}}$", PATIENT)
        assert wait_for(lambda: len(workers_of(os.getpid())) > len(pool.idle_workers()), PATIENT)
        (busy,) = set(workers_of(os.getpid())) - set(pool.idle_workers())
        os.kill(busy, signal.SIGXCPU)
        with pytest.raises(TimeoutError):
            hostile.result(PATIENT)


def test_an_interrupted_comparison_leaves_no_stale_answer(monkeypatch):
    equivalent("$x$", "$x$", PATIENT)

    def interrupt(connection, timeout_s):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pool, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            equivalent("$x$", "$x$", PATIENT)
    assert equivalent("$x$", "$y$", PATIENT) is False


def test_grading_works_from_many_threads_at_once():
    def grade_two(number):
        assert threading.current_thread() is not threading.main_thread()
        right = grade(rf"\boxed{{(x+{number})^2}}", f"x^2+{2 * number}x+{number**2}")
        wrong = grade(rf"\boxed{{(x+{number})^2}}", f"x^2+{2 * number}x+{number**2 + 1}")
        return right.verdict, wrong.verdict

    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(grade_two, range(1, 41)))
    assert verdicts == [(Verdict.CORRECT, Verdict.WRONG)] * 40
    assert len(workers_of(os.getpid())) <= pool._MAX_WORKERS


def test_grading_works_from_async_code():
    async def grade_two():
        blocking = grade(*SYMBOLIC)
        return blocking, await asyncio.to_thread(grade, *SYMBOLIC)

    assert [one.verdict for one in asyncio.run(grade_two())] == [Verdict.CORRECT] * 2


def test_a_forked_process_gets_workers_of_its_own():
    grade(*SYMBOLIC)
    workers = set(workers_of(os.getpid()))
    code = (
        "import os\n"
        "from sfpo_envs import make_grader\ngrade = make_grader(cache_size=0, timeout_s=60)\n"
        f"assert grade(*{SYMBOLIC!r}).verdict == 'correct'\n"
        "pid = os.fork()\n"
        f"assert grade(*{SYMBOLIC!r}).verdict == 'correct'\n"
        "if pid:\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        f"    assert grade(*{SYMBOLIC!r}).verdict == 'correct'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert workers <= set(workers_of(os.getpid()))


def test_a_script_without_a_main_guard_can_grade_and_leaves_no_worker(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess\n"
        "from sfpo_envs import make_grader\ngrade = make_grader(cache_size=0, timeout_s=60)\n"
        f"print(grade(*{SYMBOLIC!r}).verdict)\n"
        "from sfpo_envs.graders import pool\n"
        "print(pool._POOL._template._process.pid, *pool.idle_workers())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    verdict, *pids = done.stdout.split()
    assert verdict == "correct" and len(pids) == 2
    assert not any(is_running(int(pid)) for pid in pids)


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_when_its_parent_is_killed(busy):
    code = (
        "from sfpo_envs.graders.pool import equivalent\n"
        "equivalent('$x$', '$y$', 60)\n"
        "print('started', flush=True)\n"
        + ("equivalent('1', '$9^{9^{9^9}}$', 1)\n" if busy else "input()\n")
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
    assert wait_for(lambda: not is_running(worker), timeout_s=120)


def test_a_broken_installation_is_an_exception_and_no_verdict(monkeypatch, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('antlr4 has the wrong version')")
    monkeypatch.syspath_prepend(tmp_path)
    pool._POOL.close()
    with pytest.raises(RuntimeError, match=r"did not start: .*antlr4 has the wrong version"):
        grade(*SYMBOLIC)
    assert children_of(os.getpid()) == []
