"""How far long work is, said on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import click

SHOWN_TERMINAL_S, SHOWN_LOG_S = 0.5, 10.0


@dataclass(slots=True)
class Progress:
    """Says how far work is, how fast it goes and for how much longer: often on a terminal, seldom in a log.

    `unit` names what is counted; `all` is how many there are, where that is known.
    """

    unit: str
    all: int | None = None
    count: int = 0
    started: float = field(default_factory=time.monotonic)
    _share: float | None = None
    _shown: float = field(default_factory=lambda: 0.0 if sys.stderr.isatty() else time.monotonic())

    def note(self, count: int, share: float | None) -> None:
        """Note what is done, and which share of everything that is, from 0 to 1, None if nobody knows.

        Time counts from the last note of nothing done.
        """
        now = time.monotonic()
        if count == 0:
            self.started = now
        self.count, self._share = count, share
        on_terminal = sys.stderr.isatty()
        if now - self._shown >= (SHOWN_TERMINAL_S if on_terminal else SHOWN_LOG_S):
            self._shown = now
            click.echo(f"\r{self.text(now)}\x1b[K" if on_terminal else self.text(now), err=True, nl=not on_terminal)

    def text(self, now: float) -> str:
        """Write it in one line."""
        seconds = max(now - self.started, 1e-9)
        whole = "" if self.all is None else f" of {self.all:,}"
        far, pace = f"{self.count:,}{whole} {self.unit}", f"{self.count / seconds:,.0f}/s"
        if not self._share:
            return f"{far}, {pace}"
        left = seconds * (1 - self._share) / self._share
        return f"{far}, {self._share:.0%}, {pace}, ETA {left:,.0f} s"

    def end(self, name: str) -> None:
        """Say what it came to."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        clear()
        came_to = f"{self.count:,} {self.unit} in {seconds:,.1f} s, {self.count / seconds:,.0f}/s"
        click.echo(f"{name}: {came_to}", err=True)


def clear() -> None:
    """Take what is shown of progress off a terminal, so that something else can be said in its place."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
