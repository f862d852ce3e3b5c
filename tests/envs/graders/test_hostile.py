"""Hostile replies: hundreds of them, graded among others in one batch by two threads."""

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders import math_grader, pool
from sfpo_envs.graders.guards import is_too_costly

TIMEOUT_S = 0.5
START_S = 120  # a worker that replaces a killed one imports sympy; the machine may be busy
MEMORY_MB = 768
GOLD = r"\sqrt{424242}"
NESTINGS = [("{", "}"), ("(", ")"), ("[", "]"), (r"\left(", r"\right)"), (r"\sqrt{", "}")]
REPEATED = ["-", "+", "^", "_", "!", "=", r"\cdot", "2^", "x_", "<", "|", r"\pm", r"\frac"]
TOKENS = r"\frac \sqrt { } ( ) ^ _ 2 17 x y + - \cdot , = < \in \cup \pi \text ! | \\ & \% \infty"


def towers():
    for base, top in ((9, 9), (2, 10**9), (7, 50_000_000), (10, 10**10), (123456789, 99999)):
        yield f"{base}^{{{top}}}"
        yield f"{base}**{top}"
        yield f"({base})^{{({base})^{{({top})}}}}"
        yield f"{base}^{{{base}^{{{base}^{{{top}}}}}}} + 1"
        yield rf"\frac{{1}}{{{base}^{{{base}^{{{top}}}}}}}"
    yield from (
        r"\pi^{\pi^{\pi^{\pi^{9}}}}",
        r"e^{e^{e^{e^{10}}}}",
        r"2^{-10^{10}}",
        "x^{x^{x^{x^x}}}",
    )
    yield from (
        "1.5^{10^{10}}",
        "(1/3)^{10^{12}}",
        r"\sqrt[10^9]{2}",
        "(x+y+z+w)^{300}",
        "i^{i^{i^i}}",
    )


def counting():
    yield from ("100000000!", "((9!)!)!", "(((3!)!)!)!", "9!!!!", "(10^9)!", r"\Gamma(10^9)")
    yield from (r"\binom{10^9}{5 \cdot 10^8}", r"\dbinom{999999999}{3}", r"{10^9 \choose 10^8}")
    yield from (r"\sum_{k=1}^{10^8} k^k", r"\sum_{k=1}^{99999999} 1/k", r"\prod_{k=1}^{1000000} k")
    yield from (r"\int_0^{10^9} x^{x} dx", r"\lim_{x \to 0} x^{1/x}", r"\frac{d}{dx} x^{2000!}")


def digits():
    for number in ("9" * 10**6, "0." + "3" * 10**6, "1," * 10**4, "1/" * 10**4, "1e999999999"):
        yield number
        yield "-" + number
    yield from ("9" * 500, "0." + "3" * 500, "1/" + "7" * 500, "," * 500, ".5" * 250, "1 " * 250)


def nests():
    for depth in (10, 30, 5000):
        for opening, closing in NESTINGS:
            yield opening * depth + "1" + closing * depth
            yield opening * depth
        yield r"\frac{1}{1+" * depth + "x" + "}" * depth
    yield from (sign * 250 for sign in REPEATED)


def characters():
    yield from (f"1{chr(code)}2" for code in range(32))
    yield from (
        "\ud800",
        "\udfff\ud800",
        "\ufeff7",
        "\u202e7",
        "7\u200b",
        "\u0000" * 500,
        "\x1b[31m",
    )
    yield from ("٣", "४२", "৪২", "²³", "①", "Ⅻ", "½", "½^{½}", "四十二", "﷽" * 100)
    yield from ("\uff14\uff12", "\U0001d7dc\U0001d7da")  # full-width and double-struck 42


def code(target):
    command = f"touch {target}"
    yield from (
        f"__import__('os').system('{command}')",
        f"eval(\"__import__('os').system('{command}')\")",
        f"(lambda: __import__('os').system('{command}'))()",
        f"exec(\"open('{target}','w')\")",
        f"open('{target}', 'w').write('x')",
        f"$({command})",
        f"`{command}`",
        rf"\write18{{{command}}}",
        rf"\input{{{target}}}",
        f"'; {command}; '",
        f"Symbol('x').__class__.__init__.__globals__['os'].system('{command}')",
        *("{{7*7}}", "%s%n%x", "exit()", "raise SystemExit", "while True: pass", "[0]*10**10"),
    )


def boxes():
    yield from (r"\boxed{1}" * 20_000, r"\boxed{" * 20_000, r"\boxed{" * 60 + "1" + "}" * 60)
    yield from (r"\boxed{1,}" * 500 + r"\boxed{" + "1," * 200 + "}", r"\boxed{$\boxed{x}$}")


def noise(seed, count=40):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choices([chr(code) for code in range(33, 127)], k=60))
        yield " ".join(rng.choices(TOKENS.split(), k=15))


def corpus(target):
    expressions = [*towers(), *counting(), *digits(), *nests(), *characters(), *code(target)]
    expressions += noise(seed=0)
    return [rf"So it is \boxed{{{text}}}." for text in expressions] + list(boxes())


class PeakMemory(threading.Thread):
    """Watches how much memory this process's grader workers hold."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done, self.peak_mb = threading.Event(), 0.0

    def run(self):
        while not self.done.wait(0.5):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    fields = dict(re.findall(r"^(PPid|VmPeak):\s+(\d+)", status.read_text(), re.M))
                except OSError:
                    continue
                template = pool._POOL._template
                is_worker = template and fields.get("PPid") == str(template._process.pid)
                if is_worker and "VmPeak" in fields:
                    self.peak_mb = max(self.peak_mb, int(fields["VmPeak"]) / 1024)


def test_hostile_replies_harm_nobody(tmp_path):
    target = tmp_path / "executed"
    hostile = corpus(target)
    assert len(hostile) >= 200
    grade_hostile = make_grader("math", timeout_s=TIMEOUT_S, memory_mb=MEMORY_MB, cache_size=0)
    grade = make_grader("math", timeout_s=START_S, cache_size=0)

    def grade_one(number):
        started = time.monotonic()
        verdict = grade_hostile(hostile[number], GOLD).verdict
        seconds = time.monotonic() - started
        if number % 5:
            return verdict, seconds, True
        right = grade(rf"\boxed{{x^2+{2 * number}x+{number**2}}}", f"(x+{number})^2").verdict
        wrong = grade(rf"\boxed{{x^2+{2 * number}x}}", f"(x+{number + 1})^2").verdict
        return verdict, seconds, (right, wrong) == (Verdict.CORRECT, Verdict.WRONG)

    watch = PeakMemory()
    watch.start()
    with ThreadPoolExecutor(2) as threads:
        verdicts, seconds, unharmed = zip(*threads.map(grade_one, range(len(hostile))), strict=True)
    watch.done.set()

    assert all(unharmed)
    assert set(verdicts) <= set(Verdict) - {Verdict.CORRECT, Verdict.UNGRADABLE_GOLD}
    assert max(seconds) < TIMEOUT_S + START_S
    assert 0 < watch.peak_mb < 1100  # the others may use 1024
    assert not target.exists()
    assert len(pool._POOL._idle) > 0


def test_a_whole_hostile_reply_is_searched_without_harm(tmp_path):
    grade = make_grader("math", extraction="whole", timeout_s=TIMEOUT_S, cache_size=0)
    for text in ("9" * 10**6, "$" * 10**6, "$x$ " * 20_000):
        assert grade(text, GOLD).verdict in (Verdict.WRONG, Verdict.TIMED_OUT, Verdict.CRASHED)
    assert make_grader("math", cache_size=0)(r"\boxed{\sqrt{8}}", r"2\sqrt{2}").verdict == "correct"


HUGE = ["9^{9^{9^9}}", "2^{1000000000}", "7**50000000", "2^{-10^{10}}", "(2)^{(2)^{(2)^{(2)^{5}}}}"]
HUGE += ["((9!)!)!", "100000000!", r"\binom{10^9}{5 \cdot 10^8}", r"\sum_{k=1}^{10^8} k"]
HUGE += ["(" * 21 + "x" + ")" * 21]


@pytest.mark.parametrize("text", HUGE)
def test_what_is_huge_at_sight_is_never_computed(text, monkeypatch):
    monkeypatch.setattr(math_grader, "equivalent", None)
    assert make_grader("math")(rf"\boxed{{{text}}}", "y").verdict is Verdict.TIMED_OUT


@pytest.mark.parametrize(
    "text",
    [
        "2^{4950}",
        r"\frac{100!}{2^{50}}",
        r"\binom{2023}{1011}",
        "10^{100},10^{1 / 100}",
        "(x+1)^{2023}",
        r"\sum_{k=1}^{2024} \frac{1}{k}",
        r"\left(\frac{(1+\sqrt{5})^{(n+1)}}{2}\right)!",
        "3" * 500,
        "2 \\cdot 10^{35}",
    ],
)
def test_answers_to_real_problems_are_not_refused(text):
    assert not is_too_costly(text)


def test_what_takes_too_much_memory_is_an_error_that_shows():
    pool._POOL.close()  # an old worker may hold free memory that does
    pool.equivalent("$x$", "$y$", START_S)
    polynomial = "+".join(f"x_{{{number}}}" for number in range(400))
    with pytest.raises(pool.ComparisonError, match=r"MemoryError|died"):
        pool.equivalent("$x$", f"${polynomial}$", START_S, memory_mb=1)
    assert pool.equivalent("$x$", "$x$", START_S)
