"""What `config show` says of the URL of a database."""

from __future__ import annotations

import pytest

from tests.cli.test_root import tallystick_command


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://tally:pa-ss%40word@db:5432/tally", "postgresql://tally:(set, not shown)@db:5432/tally"),
        ("postgresql://tally@db/t?sslmode=require&password=pa-ss&a=b", "sslmode=require&password=(set, not shown)&a=b"),
        ("postgresql://tally@db/tally?host=/run/pg", "postgresql://tally@db/tally?host=/run/pg"),
    ],
)
def test_the_password_of_a_url_is_not_shown(url: str, shown: str) -> None:
    """Everything else of it is."""
    done = tallystick_command("config", "show", "--format", "ndjson", "--url", url)
    assert (done.returncode, shown in done.stdout, "pa-ss" in done.stdout) == (0, True, False)
