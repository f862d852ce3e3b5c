"""The docs' code runs, and their numbers are those of the committed results."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray")

from benchmarks.report import BLOCKS, ROOT, renewed
from sfpo_rllib.core import LossInputs, Updater, UpdateRule, group_relative_advantages

LOSSES_PAGE = (ROOT / "docs" / "losses.md").read_text()
UPDATE_RULES = (ROOT / "docs" / "update_rules.md").read_text()


@pytest.mark.parametrize("page", list(BLOCKS))
def test_numbers_are_those_of_the_committed_results(page: str) -> None:
    text = (ROOT / page).read_text()
    assert renewed(text, BLOCKS[page]) == text, "run `python -m benchmarks.report`"


def headings(page: Path) -> set[str]:
    """The anchors that a Markdown page has."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in headings(there), f"{page.name}: {target}#{anchor}"


def test_the_readme_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert pages == set(re.findall(r"\]\(docs/(\w+\.md)", readme))


def test_the_commands_page_has_every_command() -> None:
    from sfpo_rllib.commands.app import app

    page = (ROOT / "docs" / "commands.md").read_text()
    names = [command.name for command in app.registered_commands]
    names += [group.typer_instance.info.name for group in app.registered_groups]
    listed = re.findall(r"^\| \[?`(\w+)`", page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(names)


def test_lines_of_iterations_on_the_commands_page_are_as_they_are_printed() -> None:
    from sfpo_rllib.reporting import iteration_line

    def shape(line: str) -> str:
        return re.sub(r"[ \d.]+", "#", line)

    result = {
        "training_iteration": 1,
        "env_runners": {"accuracy": 0.5, "episode_return_mean": 0.5, "tokens_per_s": 1477},
        "learners": {"default_policy": {"sfpo": {"entropy": 0.8, "active": 1}}},
        "timers": {"sample": 0.14, "learn": 0.38, "sync_weights": 0.0},
    }
    page = (ROOT / "docs" / "commands.md").read_text()
    lines = re.findall(r"^iter .*$", page, flags=re.MULTILINE)
    assert len(lines) == 4
    assert {shape(line) for line in lines} == {shape(iteration_line(result))}


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


def test_losses_in_the_docs_are_those_there_are_with_their_defaults() -> None:
    from sfpo_rllib.core import ADVANTAGES, LOSSES
    from sfpo_rllib.core.importance import ENGINE_CORRECTIONS
    from sfpo_rllib.core.losses import LOSS_AGGREGATIONS
    from sfpo_rllib.core.objective import KL_ESTIMATORS

    def rows(heading: str) -> list[list[str]]:
        table = LOSSES_PAGE.split(heading)[1].split("\n\n")[0].splitlines()
        return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table[2:]]

    listed = {name.strip("`"): cells for name, *cells in rows("| `loss` | paper")}
    assert listed.keys() == LOSSES.keys()
    for name, (paper, _, aggregation, advantages, clip) in listed.items():
        loss = LOSSES[name]
        assert paper.startswith("[2") and aggregation == f"`{loss.aggregation}`"
        assert advantages == f"`{loss.advantages}`"
        if name != "reinforce":
            assert [float(value) for value in clip.split(",")] == [loss.clip.low, loss.clip.high]
    for heading, known in (
        ("\n| `loss_aggregation` | weight", LOSS_AGGREGATIONS),
        ("\n| `advantages` | of", tuple(ADVANTAGES)),
        ("| `kl_estimator` |", KL_ESTIMATORS),
        ("| `engine_correction` |", (*ENGINE_CORRECTIONS, "None")),
    ):
        names = [n for name, *_ in rows(heading) for n in re.findall(r"`(\w+)`", name)]
        assert names == list(known), heading


def test_the_loss_and_the_advantage_in_the_docs_give_a_gradient() -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", LOSSES_PAGE, flags=re.DOTALL):
        exec(block, names)
    assert names["config"].policy_loss.function is names["soft_clip"]
    assert names["config"].policy_loss.clip.high == 0.3
    advantages, _ = group_relative_advantages(
        torch.tensor([[0.0, 1.0, 1.0]]), names["over_the_median"]
    )
    assert advantages.tolist() == [[-1.0, 0.0, 0.0]]
    logp = torch.zeros(3, 2, requires_grad=True)
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    inputs = LossInputs(logp, torch.zeros(3, 2), advantages.T, mask, mask / 3)
    loss, metrics = names["soft_clip"](inputs, names["config"].policy_loss.clip)
    loss.backward()
    torch.testing.assert_close(logp.grad, torch.tensor([[1.0, 1], [0, 0], [0, 0]]) / 3 / 0.3)
    assert metrics["far_tokens"] == 0


def test_the_learners_page_has_every_name_there_is() -> None:
    from sfpo_rllib.core.lr_schedule import LR_SCHEDULES
    from sfpo_rllib.core.optimizers import OPTIMIZERS
    from sfpo_rllib.rl_modules.parallelism import PARALLELISMS

    page = (ROOT / "docs" / "learner.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| ", page, flags=re.MULTILINE)
    assert listed == [
        *("parallelism", *PARALLELISMS),
        *("optimizer", *OPTIMIZERS),
        *("lr_schedule", *LR_SCHEDULES),
    ]


def test_the_settings_on_the_learners_page_are_good() -> None:
    page = (ROOT / "docs" / "learner.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        names: dict = {}
        exec(block, names)
        assert list(names["config"].cheap_problems()) == []


def test_every_page_is_on_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f" {page.name}\n" in nav


def test_messages_on_the_troubleshooting_page_are_those_there_are() -> None:
    folders = ("sfpo_rllib", "envs", "tools")
    source = "".join(p.read_text() for f in folders for p in sorted((ROOT / f).rglob("*.py")))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # texts over several lines
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE)
    assert len(messages) > 15
    assert [message for message in messages if message not in source] == []


def test_the_first_config_is_good() -> None:
    names: dict = {}
    page = (ROOT / "docs" / "get_started.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(block, names)
    names["config"].validate()
