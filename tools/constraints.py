"""Writes constraints.txt: the versions in this environment of all that the package pulls in.

    .venv/bin/python tools/constraints.py

They are what the tests ran with; `pip install -c constraints.txt ...` gets the same elsewhere.
Local parts of versions ("+cpu") are left out, so that they hold for a GPU as well.
"""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
PACKAGE = "sfpo-rllib"
HEADER = "# The versions that the tests ran with, by tools/constraints.py: pip install -c {} ...\n"
# Removed again from a CPU's environment: see tools/bootstrap.py.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}


def direct() -> list[Requirement]:
    """What pyproject.toml asks for, with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for requirements in lists for text in requirements]


def needed(package: str, extras: set[str]) -> Iterator[Requirement]:
    """What an installed package says it needs, with these extras."""
    for text in distribution(package).requires or []:
        requirement = Requirement(text)
        choices = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(map(requirement.marker.evaluate, choices)):
            yield requirement


def versions() -> dict[str, str]:
    """By name, of what is installed of the package's needs and of theirs."""
    found: dict[str, str] = {}
    waiting = [(canonicalize_name(r.name), r.extras) for r in direct() if r.name != PACKAGE]
    seen = set()
    while waiting:
        package, wanted = waiting.pop()
        if (package, frozenset(wanted)) in seen:
            continue
        seen.add((package, frozenset(wanted)))
        try:
            version = distribution(package).version
            waiting += [(canonicalize_name(r.name), r.extras) for r in needed(package, wanted)]
        except PackageNotFoundError:
            continue
        found[package] = Version(version).public
    return {name: found[name] for name in sorted(found.keys() - LEFT_OUT)}


def main() -> None:
    """Writes the file."""
    lines = [f"{name}=={version}\n" for name, version in versions().items()]
    FILE.write_text(HEADER.format(FILE.name) + "".join(lines))
    print(f"{FILE}: {len(lines)} packages")


if __name__ == "__main__":
    main()
