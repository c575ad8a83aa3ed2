"""What waits for a part of a body is told when it has waited long enough, and nobody else is."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.body_waits import BodyWaits


async def _never() -> bytes:
    await asyncio.Event().wait()
    return b""


async def _after(seconds: float) -> bytes:
    await asyncio.sleep(seconds)
    return b"part"


def test_each_waits_as_long_as_it_may() -> None:
    """One timer serves all: who came later is told later, and who got a part is not told at all."""

    async def scenario() -> None:
        waits, loop = BodyWaits(0.1), asyncio.get_running_loop()
        began = loop.time()

        async def late(delay: float) -> float:
            await asyncio.sleep(delay)
            with pytest.raises(TimeoutError):
                await waits.within(_never())
            return loop.time() - began - delay

        quick = asyncio.create_task(waits.within(_after(0.05)))
        waited = await asyncio.gather(*(late(delay) for delay in (0.0, 0.04, 0.08, 0.3)))
        assert await quick == b"part"
        assert all(each > 0.09 for each in waited), waited

    asyncio.run(scenario())


def test_a_task_waits_again_after_it_was_told() -> None:
    """Being told leaves nothing behind: the task is not cancelled, and its next wait is a whole one."""

    async def scenario() -> None:
        waits = BodyWaits(0.05)
        with pytest.raises(TimeoutError):
            await waits.within(_never())
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        assert await waits.within(_after(0.02)) == b"part"

    asyncio.run(scenario())


def test_whoever_is_cancelled_by_others_stays_cancelled() -> None:
    """A request that ends for another reason did not wait too long."""

    async def scenario() -> None:
        waits = BodyWaits(10)
        task = asyncio.create_task(waits.within(_never()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        both = asyncio.create_task(waits.within(_never()))
        await asyncio.sleep(0)
        both.cancel()
        waits.end()
        with pytest.raises(asyncio.CancelledError):
            await both

    asyncio.run(scenario())


def test_all_are_told_at_the_end() -> None:
    """A process that ends waits for no more of what is under way; what begins afterwards waits as always."""

    async def scenario() -> None:
        waits = BodyWaits(10)
        tasks = [asyncio.create_task(waits.within(_never())) for _ in range(3)]
        await asyncio.sleep(0)
        waits.end()
        assert all(isinstance(found, TimeoutError) for found in await asyncio.gather(*tasks, return_exceptions=True))
        assert await waits.within(_after(0.01)) == b"part"

    asyncio.run(scenario())
