"""The one error that users see.

Knows how a complaint is worded: file, spectrum, problem, remedy, on one line.
Does not know who raises it nor who prints it.
"""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Something handed to tinynovo cannot be used.

    Parameters
    ----------
    problem : str
        What is wrong, in a few words.
    file : str or Path, optional
        The file it was found in.
    spectrum : str, optional
        The spectrum (native id, TITLE or ``index=N``) it was found in.
    remedy : str, optional
        What the reader can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        spectrum: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.spectrum = spectrum
        self.remedy = remedy
        super().__init__(problem)

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.spectrum) if part)
        text = f"{place}: {self.problem}" if place else self.problem
        if self.remedy:
            text = f"{text} ({self.remedy})"
        return " ".join(text.split())
