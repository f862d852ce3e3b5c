"""What the checker has to say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

_SHOWN = 60  # characters of a text in a finding


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: ``"error"``: training goes wrong; ``"warning"``: it may be meant.
        check: Name of the check.
        seen: What was seen, with the value.
        change: What to change.
        times: How often the like was seen; ``seen`` is the first.
    """

    severity: Literal["error", "warning"]
    check: str
    seen: str
    change: str
    times: int = 1

    def __str__(self) -> str:
        more = f" (and {self.times - 1} more like it)" if self.times > 1 else ""
        return f"{self.severity}: {self.check}: {self.seen}{more}\n    change: {self.change}"


class Findings(list[Finding]):
    """All findings about an environment, in the order of the checks."""

    @property
    def errors(self) -> list[Finding]:
        """Those that make training go wrong."""
        return [finding for finding in self if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Those that may be meant."""
        return [finding for finding in self if finding.severity == "warning"]

    def raise_if_errors(self) -> None:
        """Raise if there are errors.

        Raises:
            ValueError: The message lists them all.
        """
        if self.errors:
            raise ValueError("\n".join(map(str, self.errors)))

    def error(self, check: str, seen: str, change: str) -> None:
        """Add an error, or count it where the like of it is known."""
        self._add(Finding("error", check, seen, change))

    def warn(self, check: str, seen: str, change: str) -> None:
        """Add a warning, or count it where the like of it is known."""
        self._add(Finding("warning", check, seen, change))

    def _add(self, new: Finding) -> None:
        for index, old in enumerate(self):
            if (old.severity, old.check, old.change) == (new.severity, new.check, new.change):
                self[index] = replace(old, times=old.times + 1)
                return
        self.append(new)


def short(value: Any) -> str:
    """Return a value as a finding shows it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
