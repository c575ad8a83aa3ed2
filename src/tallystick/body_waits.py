"""How long bodies are waited for: everybody waits as long for a part, so one timer is enough for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class BodyWaits:
    """The tasks that wait for a part of a body, each once, the first to give up first; for one event loop."""

    def __init__(self, seconds: float) -> None:
        """Have a part waited for so long at most."""
        self._seconds = seconds
        self._until: dict[asyncio.Task[Any], float] = {}
        self._over: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, part: Awaitable[T]) -> T:
        """Wait for a part; raises TimeoutError when it does not come in time, or `end` was called."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "a request has a task"
        asked_to_end = task.cancelling()
        self._until[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)
        try:
            return await part
        except asyncio.CancelledError:
            # Told by us, and by nobody else meanwhile.
            if task in self._over and task.uncancel() <= asked_to_end:
                raise TimeoutError from None
            raise
        finally:
            self._until.pop(task, None)
            self._over.discard(task)

    def end(self) -> None:
        """Have everybody give up who waits now."""
        for task in list(self._until):
            self._give_up(task)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for task, until in list(self._until.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._look)
                return
            self._give_up(task)

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        del self._until[task]
        self._over.add(task)
        task.cancel()
