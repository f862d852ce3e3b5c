"""The docs' code runs, and their numbers are those of the committed results."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray")

from benchmarks.report import BLOCKS, ROOT, renewed
from sfpo_rllib.core import Updater, UpdateRule

UPDATE_RULES = (ROOT / "docs" / "update_rules.md").read_text()


@pytest.mark.parametrize("page", list(BLOCKS))
def test_numbers_are_those_of_the_committed_results(page: str) -> None:
    text = (ROOT / page).read_text()
    assert renewed(text, BLOCKS[page]) == text, "run `python -m benchmarks.report`"


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_rule_in_the_docs_trains_and_goes_on_from_its_state() -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", UPDATE_RULES, flags=re.DOTALL):
        exec(block, names)
    rule = names["config"].make_update_rule()
    assert type(rule) is names["OuterMomentum"]

    def train(updater: Updater, weight: torch.nn.Parameter, num_batches: int) -> None:
        optimizer = torch.optim.SGD([weight], lr=0.05)

        def run_pass(target: torch.Tensor) -> float:
            loss = (weight - target).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        for _ in range(num_batches):
            batch = torch.ones(3)
            updater.update(batch, run_pass, parameters=[weight], optimizers=[optimizer])

    def fresh() -> UpdateRule:
        return names["OuterMomentum"](momentum=0.3)

    whole, half = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
    train(Updater(fresh()), whole, 6)
    first = Updater(fresh())
    train(first, half, 3)
    second = Updater(fresh())
    second.load_state_dict(first.state_dict())
    train(second, half, 3)
    assert torch.equal(whole, half)
    assert (whole - 1).abs().max() < 0.1


def test_rules_in_the_docs_are_those_there_are() -> None:
    from sfpo_rllib.core import UPDATE_RULES as RULES

    listed = re.findall(r"^\| `(\w+)` \| `(\w+)\(", UPDATE_RULES, flags=re.MULTILINE)
    assert dict(listed) == {name: rule.__name__ for name, rule in RULES.items()}


def test_the_learners_page_has_the_optimizers_and_schedules_there_are() -> None:
    from sfpo_rllib.core.lr_schedule import LR_SCHEDULES
    from sfpo_rllib.core.optimizers import OPTIMIZERS

    page = (ROOT / "docs" / "learner.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| ", page, flags=re.MULTILINE)
    assert listed == ["optimizer", *OPTIMIZERS, "lr_schedule", *LR_SCHEDULES]


def test_the_settings_on_the_learners_page_are_good() -> None:
    page = (ROOT / "docs" / "learner.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
    assert list(names["config"].cheap_problems()) == []


def test_pages_are_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in Path(ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme
