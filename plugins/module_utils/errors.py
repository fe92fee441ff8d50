"""The one error type of this package: what is wrong and where, and what to do about it."""

from __future__ import annotations


class DeployError(Exception):
    """Something foreseeable went wrong.

    Args:
        problem: what is wrong, naming the key, host or file; one line.
        fix: what the operator can do about it; one line, may be empty.
        detail: supporting lines (a log tail, a list of files), shown after the first line.
    """

    def __init__(self, problem: str, fix: str = "", detail: str = "") -> None:
        self.problem = problem.rstrip(". ")
        self.fix = fix
        self.detail = detail
        super().__init__(str(self))

    def __str__(self) -> str:
        line = f"{self.problem}. Fix: {self.fix}" if self.fix else self.problem
        return f"{line}\n{self.detail}" if self.detail else line
