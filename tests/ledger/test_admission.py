"""What holds, events and limits do to each other, as scripts that every ledger plays alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.build import LEDGERS, SPLIT, Desk
from tests.ledger.script import check

SCRIPTS = {
    "a hold counts until it settles; what was not used comes back, and the period ends both": """
        limit   10 1h
        hold    job-1 6     -> allowed 4
        hold    job-2 6     -> denied 4
        settle  job-1 2     -> allowed 8
        tick    1h
        hold    job-3 10    -> allowed 0
        """,
    "capacity is reached exactly, and not passed": """
        limit   3 1d
        hold    a 1         -> allowed 2
        hold    b 1         -> allowed 1
        hold    c 1         -> allowed 0
        hold    d 1         -> denied 0
        held                -> 3
        """,
    "the same hold again is the same hold, another one of its id is refused": """
        limit   10 1h
        hold    a 6         -> allowed 4
        hold    a 6         -> duplicate
        hold    a 5         -> id_reused
        hold    a 6 ttl=5m  -> id_reused
        hold    a 6 kind=x  -> id_reused
        held                -> 6
        """,
    "a hold that was refused left nothing behind": """
        limit   10 1h
        use     8           -> accepted
        hold    a 6         -> denied 2
        state   a           -> unknown
        hold    a 2         -> allowed 0
        """,
    "a released hold frees everything, once": """
        limit   10 1h
        hold    a 6         -> allowed 4
        release a           -> allowed 10
        release a           -> duplicate
        release b           -> unknown
        left                -> 10
        state   a           -> released
        settle  a 1         -> ended
        used                -> 0
        """,
    "a hold expires at its deadline": """
        limit   10 1h
        hold    a 6 ttl=5m  -> allowed 4
        tick    299s
        held                -> 6
        tick    1s
        held                -> 0
        state   a           -> expired
        hold    b 10        -> allowed 0
        renew   a           -> ended
        release a           -> duplicate
        """,
    "of an expired hold the event is recorded, and marked": """
        limit   10 1h
        hold    a 6 ttl=1m  -> allowed 4
        tick    2m
        hold    b 10        -> allowed 0
        settle  a 5         -> allowed 0 expired
        used                -> 5
        state   a           -> settled
        """,
    "an event larger than its hold is recorded, marked and counted": """
        limit   10 1h
        hold    a 2         -> allowed 8
        settle  a 15        -> allowed 0 exceeded
        used                -> 15
        hold    b 1         -> denied 0
        """,
    "a settlement is safe to repeat, and another event is none": """
        limit   10 1h
        hold    a 4         -> allowed 6
        settle  a 3         -> allowed 7
        settle  a 3         -> duplicate
        settle  a 3 event=other -> id_reused
        settle  a 2         -> conflict id_reused
        used                -> 3
        """,
    "a duplicate event frees its hold": """
        limit   10 1h
        use     3 event=e1 at=2024-05-01T11:59:00Z   -> accepted
        hold    a 4         -> allowed 6
        settle  a 3 event=e1 at=2024-05-01T11:59:00Z -> allowed 10 duplicate
        held                -> 0
        """,
    "a refused event leaves its hold open": """
        limit   10 1h
        use     3 event=e1  -> accepted
        hold    a 4         -> allowed 3
        settle  a 4 event=e1 -> conflict id_reused
        state   a           -> open
        held                -> 4
        settle  a 4         -> allowed 3
        """,
    "renewing moves the deadline": """
        limit   10 1h
        hold    a 6 ttl=5m  -> allowed 4
        tick    4m
        renew   a           -> allowed 4
        tick    4m
        held                -> 6
        renew   a ttl=20m   -> allowed 4
        tick    19m
        held                -> 6
        tick    1m
        held                -> 0
        renew   x           -> unknown
        """,
    "renewing may ask for more, all of it or nothing, and give back": """
        limit   10 1h
        hold    a 4         -> allowed 6
        hold    b 2         -> allowed 4
        renew   a 8         -> allowed 8 of 4, 0
        renew   b 3         -> denied 0
        held                -> 10
        renew   a 1         -> allowed 1 of 4, 7
        settle  a 5         -> allowed 3 exceeded
        """,
    "best effort holds as much as fits": """
        limit   10 1h
        hold    a 7         -> allowed 3
        hold    b 5 mode=best_effort -> allowed 3 of 5, 0
        hold    c 5 mode=best_effort -> denied 0
        release a           -> allowed 7
        hold    d 5 mode=best_effort -> allowed 2
        """,
    "check only says what would be, and keeps nothing": """
        limit   10 1h
        hold    a 7 mode=check_only  -> allowed 3
        left                -> 10
        hold    a 11 mode=check_only -> denied 10
        state   a           -> unknown
        hold    a 7         -> allowed 3
        """,
    "an account without limits holds what it likes": """
        hold    a 1000000   -> allowed
        settle  a 2000000   -> allowed exceeded
        """,
    "several limits: all of them, or none": """
        limit   10 1h id=hour
        limit   12 1d id=day
        hold    a 8         -> allowed 4 2
        settle  a 8         -> allowed 4 2
        tick    1h
        hold    b 6         -> denied 4
        held    hour        -> 0
        hold    b 4         -> allowed 0 6
        """,
    "a limit with labels counts what has them": """
        limit   10 1h id=all
        limit   2 1h id=red kind=red
        hold    a 2 kind=red  -> allowed 8 0
        hold    b 1 kind=red  -> denied 0
        hold    c 5 kind=blue -> allowed 3
        hold    d 4           -> denied 3
        """,
    "an empty label in a limit is also no label": """
        limit   5 1h kind=
        hold    a 2           -> allowed 3
        hold    b 2 kind=red  -> allowed
        settle  a 1 kind=red  -> allowed 5
        """,
    "what an event says counts, not what its hold said": """
        limit   5 1h id=blue kind=blue
        limit   5 1h id=red kind=red
        hold    a 3 kind=red  -> allowed 2
        settle  a 3 kind=blue -> allowed 2 5
        """,
    "events are counted by a limit on their number": """
        limit   2 1h property=count
        hold    a 100       -> allowed 1
        use     50          -> accepted
        hold    b 1         -> denied 0
        hold    c 1 count=2 -> denied 0
        settle  a 70        -> allowed 0
        """,
    "a hold for several events counts them": """
        limit   5 1h property=count
        hold    a 10 count=3 -> allowed 2
        hold    b 10 count=3 -> denied 2
        """,
    "two requests of type lens hold six credits": """
        limit   10 1mo id=credits meter=vision_credits status=402
        limit   100 1mo id=requests meter=vision_requests
        hold    a 2 meter=vision_requests type=lens -> allowed 4 98
        hold    b 2 meter=vision_requests type=lens -> denied 4
        hold    c 8 meter=vision_requests type=similar -> allowed 0 90
        hold    d 1 meter=vision_requests type=lens mode=best_effort -> denied 0
        """,
    "best effort over credits holds whole requests": """
        limit   10 1mo id=credits meter=vision_credits
        hold    a 9 meter=vision_requests type=lens mode=best_effort -> allowed 3 of 9, 1
        hold    b 9 meter=vision_requests type=similar mode=best_effort -> allowed 2 of 9, 0
        """,
    "a hold on credits holds requests too": """
        limit   4 1mo id=requests meter=vision_requests
        hold    a 6 meter=vision_credits type=lens -> allowed 2
        hold    b 7 meter=vision_credits type=lens -> denied 2
        hold    c 4 meter=vision_credits type=lens -> allowed 0
        """,
    "what costs nothing is let through when nothing is left": """
        limit   1 1mo id=credits meter=vision_credits
        hold    a 1 meter=vision_requests type=explore -> allowed 0
        hold    b 5 meter=vision_requests type=track   -> allowed 0
        hold    c 1 meter=vision_requests type=explore -> denied 0
        """,
    "rates are those of the time of the hold": """
        limit   100 1mo id=credits meter=vision_credits
        hold    a 2 meter=vision_requests type=lens -> allowed 94
        rates   vision lens=5 explore=1 similar=0.5 track=0 assistant=2
        hold    b 2 meter=vision_requests type=lens -> allowed 84
        held    credits     -> 16
        """,
    "of tokens that a hold does not tell something must be left": """
        limit   10 1h id=out meter=tokens_out
        hold    a 500 meter=tokens_in model=m -> allowed 10
        use     10 event_type=model.request model=m input=1 output=10 -> accepted
        hold    b 500 meter=tokens_in model=m -> denied 0
        """,
    "holds on images take nothing of verifications": """
        limit   1 1y id=images meter=images
        limit   1 1y id=voices meter=verifications
        hold    a 1 meter=images -> allowed 0
        hold    b 1 meter=images -> denied 0
        held    voices      -> 0
        """,
    "allow lets everything through and tells what is over": """
        limit   10 1h policy=allow
        hold    a 25        -> allowed 0
        settle  a 25        -> allowed 0
        hold    b 25        -> allowed 0
        more                -> yes
        """,
    "usage that nobody asked for is recorded, over the limit or not": """
        limit   10 1h
        use     8           -> accepted
        use     8           -> accepted
        used                -> 16
        hold    a 1         -> denied 0
        """,
    "a limit may refuse events that nobody set anything aside for": """
        limit   10 1h unheld=refuse
        use     8           -> accepted
        use     3           -> rejected over_limit
        use     2           -> accepted
        use     1           -> rejected over_limit
        used                -> 10
        tick    1h
        use     1           -> accepted
        """,
    "of a batch those that fit are taken, in order": """
        limit   10 1h unheld=refuse
        batch   4 5 3 1 1   -> accepted, accepted, rejected over_limit, accepted, rejected over_limit
        used                -> 10
        """,
    "what is held is no room for events that are refused": """
        limit   10 1h unheld=refuse
        hold    a 6         -> allowed 4
        use     5           -> rejected over_limit
        settle  a 9         -> allowed 1 exceeded
        use     1           -> accepted
        """,
    "a refused event may be sent again": """
        limit   2 1h unheld=refuse
        use     3 event=e   -> rejected over_limit
        limit   5 1h unheld=refuse
        use     3 event=e   -> accepted
        use     3 event=e   -> duplicate
        """,
    "an event of another period is not refused": """
        limit   2 1h unheld=refuse
        use     5 at=2024-05-01T10:00:00Z -> accepted
        used                -> 0
        """,
    "an open hold moves to the next period, its event counts in that of its time": """
        limit   10 1h
        tick    55m
        hold    a 6 ttl=30m -> allowed 4
        tick    10m
        left                -> 4
        settle  a 6 at=2024-05-01T12:59:00Z -> allowed 10
        hold    b 10        -> allowed 0
        """,
    "a grant gives capacity for as long as it is valid": """
        limit   - ever
        hold    a 1         -> denied 0
        grant   5 2024-05-01T00:00:00Z 2024-05-02T00:00:00Z
        hold    b 4         -> allowed 1
        tick    12h
        hold    c 1         -> denied 0
        grant   3 2024-05-01T00:00:00Z kind=base
        hold    d 3         -> allowed 0
        """,
    "capacity that ends inside a period leaves what was used": """
        limit   5 1mo
        grant   5 2024-05-01T00:00:00Z 2024-05-03T00:00:00Z
        use     8           -> accepted
        left                -> 2
        clock   2024-05-03T00:00:00Z
        left                -> 0
        hold    a 1         -> denied 0
        """,
    "a limit that is made later counts what is used and held already": """
        use     3           -> accepted
        hold    a 4         -> allowed
        limit   10 1h
        left                -> 3
        hold    b 4         -> denied 3
        hold    b 3         -> allowed 0
        """,
    "a limit that is made anew begins with what is true": """
        limit   10 1h
        hold    a 4         -> allowed 6
        unlimit
        use     2           -> accepted
        limit   10 1d
        left                -> 4
        hold    b 5         -> denied 4
        """,
    "a lower amount refuses what is new and frees nothing": """
        limit   10 1h
        hold    a 8         -> allowed 2
        limit   5 1h
        hold    b 1         -> denied 0
        held                -> 8
        renew   a           -> allowed 0
        renew   a 9         -> denied 0
        limit   20 1h
        hold    b 1         -> allowed 11
        """,
    "each threshold is noted once in a period": """
        limit   10 1h thresholds=50,80,100
        use     4           -> accepted
        crossed             -> nothing
        use     1           -> accepted
        crossed             -> 50
        use     5           -> accepted
        use     5           -> accepted
        crossed             -> 50 80 100
        tick    1h
        hold    a 9         -> allowed 1
        crossed             -> 50 80 100
        settle  a 9         -> allowed 1
        crossed             -> 50 80 100 50 80
        """,
    "thresholds go with their limit": """
        limit   10 1h thresholds=50
        use     6           -> accepted
        unlimit             -> deleted
        limit   10 1h thresholds=50
        crossed             -> nothing
        use     1           -> accepted
        crossed             -> 50
        """,
    "thresholds go beyond what is included": """
        limit   10 1h policy=allow thresholds=100,200
        use     25          -> accepted
        crossed             -> 100 200
        """,
    "the clock going back makes no hold open again": """
        limit   10 1h
        hold    a 10 ttl=5m -> allowed 0
        tick    6m
        hold    b 1         -> allowed 9
        tick    -6m
        state   a           -> expired
        hold    c 10        -> denied 9
        restart
        state   a           -> expired
        hold    c 10        -> denied 9
        """,
    "holds and limits are there after a restart": """
        limit   10 1h thresholds=30
        hold    a 6         -> allowed 4
        use     3           -> accepted
        restart
        hold    b 2         -> denied 1
        hold    a 6         -> duplicate
        crossed             -> 30
        settle  a 6         -> allowed 1
        restart
        settle  a 6         -> duplicate
        holds   open        -> none
        holds               -> a
        crossed             -> 30
        """,
    "a hold of before an expiry is gone after a restart": """
        limit   10 1h
        hold    a 6 ttl=5m  -> allowed 4
        tick    5m
        restart
        hold    b 10        -> allowed 0
        settle  a 1         -> allowed 0 expired
        """,
    "a day of twenty-three hours ends early": """
        clock   2024-03-30T22:59:59Z
        limit   10 1d tz=Europe/Prague
        hold    a 10 ttl=1s -> allowed 0
        tick    1s
        hold    b 10 ttl=1s -> allowed 0
        use     10          -> accepted
        clock   2024-03-31T21:59:59Z
        hold    c 1         -> denied 0
        tick    1s
        hold    d 10        -> allowed 0
        """,
    "a day of twenty-five hours ends late": """
        clock   2024-10-26T22:00:00Z
        limit   10 1d tz=Europe/Prague
        use     10          -> accepted
        clock   2024-10-27T22:59:59Z
        hold    a 1         -> denied 0
        tick    1s
        hold    b 10        -> allowed 0
        """,
    "the repeated hour is an hour of its own": """
        clock   2024-10-27T00:30:00Z
        limit   10 1h tz=Europe/Prague
        use     10          -> accepted
        clock   2024-10-27T01:00:00Z
        hold    a 10        -> allowed 0
        """,
    "a month that is anchored at its end": """
        clock   2024-02-28T23:59:59Z
        limit   10 1mo anchor=31
        use     10          -> accepted
        hold    a 1         -> denied 0
        tick    1s
        hold    b 10 ttl=1m -> allowed 0
        use     10          -> accepted
        clock   2024-03-30T23:59:59Z
        hold    c 1         -> denied 0
        tick    1s
        hold    d 10        -> allowed 0
        """,
    "a zone of three quarters of an hour": """
        clock   2024-05-01T18:14:00Z
        limit   10 1d tz=Asia/Kathmandu
        use     10          -> accepted
        tick    59s
        hold    a 1         -> denied 0
        tick    1s
        hold    b 1         -> allowed 9
        """,
    "a minute ends inside a quarter of an hour": """
        clock   2024-05-01T12:07:30Z
        use     4 at=2024-05-01T12:07:10Z -> accepted
        use     4 at=2024-05-01T12:06:59Z -> accepted
        limit   10 1m
        hold    a 7         -> denied 6
        hold    a 6 ttl=1m  -> allowed 0
        tick    30s
        left                -> 4
        settle  a 6 at=2024-05-01T12:07:59Z -> allowed 10
        hold    b 10        -> allowed 0
        """,
    "an event a little ahead of the clock counts when its time comes": """
        clock   2024-05-01T12:58:00Z
        limit   10 1h
        use     8 at=2024-05-01T13:01:00Z -> accepted
        hold    a 10 ttl=1m -> allowed 0
        tick    2m
        hold    b 3         -> denied 2
        hold    b 2         -> allowed 0
        """,
    "a clock that leaps a year forward": """
        limit   10 1mo
        hold    a 10        -> allowed 0
        tick    366d
        hold    b 10        -> allowed 0
        use     1           -> accepted
        tick    -366d
        used                -> 1
        """,
    "accounts have nothing to do with each other": """
        account globex
        limit   10 1h
        limit   5 1h id=theirs account=globex
        hold    a 10        -> allowed 0
        hold    a 5 account=globex -> allowed 0
        release a account=globex -> allowed 5
        state   a           -> open
        use     3 account=globex -> accepted
        used                -> 0
        """,
    "nobody holds for an account that is not there": """
        hold    a 1 account=umbrella -> unknown
        """,
    "holds are listed by id": """
        hold    b 1
        hold    a 1
        hold    c 1 ttl=1m
        release b
        tick    2m
        holds               -> a b c
        holds   open        -> a
        holds   released    -> b
        holds   expired     -> c
        """,
}


@pytest.fixture(params=(*LEDGERS, SPLIT))
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    """Each kind of ledger, in turn."""
    return Desk.of(request, tmp_path)


@pytest.mark.parametrize("script", [pytest.param(script, id=name) for name, script in SCRIPTS.items()])
def test_a_script_is_played(desk: Desk, script: str) -> None:
    """What each line says comes of it, on every ledger, and the proof finds nothing wrong afterwards."""
    check(desk, script)


def test_a_line_that_is_wrong_is_seen(tmp_path: Path) -> None:
    """The notation compares: a script that says something else fails."""
    with pytest.raises(AssertionError, match="allowed 4"):
        check(Desk("memory:"), "limit 10 1h\nhold a 6 -> allowed 5")
