"""How far long work is: what is said, and how often."""

from __future__ import annotations

import time

import pytest

from tallystick.cli.progress import SHOWN_LOG_S, SHOWN_TERMINAL_S, Progress, clear


@pytest.mark.parametrize(
    ("progress", "count", "share", "said"),
    [
        (Progress("lines", started=100), 500, 0.25, "500 lines, 25%, 50/s, ETA 30 s"),
        (Progress("lines", started=100), 12_000, None, "12,000 lines, 1,200/s"),
        (Progress("events", 5_000, started=100), 4_000, 0.8, "4,000 of 5,000 events, 80%, 400/s, ETA 2 s"),
        (Progress("events", 5_000, started=100), 0, 0.0, "0 of 5,000 events, 0/s"),
    ],
)
def test_one_line_says_what_is_done_how_fast_and_how_long_still(
    progress: Progress, count: int, share: float | None, said: str
) -> None:
    """After ten seconds; without a share nobody knows how long it still takes."""
    progress.count, progress._share = count, share
    assert progress.text(110) == said


class Clock:
    """A clock that only goes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("on_terminal", "every"), [(True, SHOWN_TERMINAL_S), (False, SHOWN_LOG_S)])
def test_a_terminal_is_told_at_once_and_often_a_log_seldom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_terminal: bool, every: float
) -> None:
    """A terminal has one line that changes, a log has lines; time counts from the last note of nothing done."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal, raising=False)
    progress = Progress("events", 10)
    progress.note(0, 0.0)
    assert capsys.readouterr().err == ("\r0 of 10 events, 0/s\x1b[K" if on_terminal else "")
    clock.now += every / 2
    progress.note(0, 0.0)
    assert capsys.readouterr().err == ""
    clock.now += every / 2
    progress.note(5, 0.5)
    shown = f"5 of 10 events, 50%, {10 / every:,.0f}/s, ETA {every / 2:,.0f} s"
    assert capsys.readouterr().err == (f"\r{shown}\x1b[K" if on_terminal else f"{shown}\n")
    clear()
    progress.end("a.csv")
    ended = f"a.csv: 5 events in {every / 2:,.1f} s, {10 / every:,.0f}/s\n"
    assert capsys.readouterr().err == 2 * "\r\x1b[K" * on_terminal + ended
