"""Pages that are followed in a terminal, block after block in one folder: each prints what stands below it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.api.http import coded_max
from tallystick.settings import MIB, Settings
from tests.generated import FOLDER, PAGES
from tests.test_readme import environment, steps
from tests.test_reference import OF_ONE_INSTANT

ROOT = Path(__file__).resolve().parent.parent
FOLLOWED = (
    "explanation/file-format.md",
    "how-to/back-up.md",
    "how-to/import-a-log.md",
    "how-to/meter-an-asgi-app.md",
    "reference/import.md",
    "tutorial/one-hour.md",
)
BETWEEN = "-- next block --"
OF_THIS_RUN: tuple[tuple[re.Pattern[str], str], ...] = ()
"""What no two runs have in common, and what stands for it where outputs are compared."""


def settled(output: str) -> str:
    """Put a fixed word where two runs differ."""
    for pattern, word in OF_THIS_RUN:
        output = pattern.sub(word, output)
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


@pytest.mark.parametrize("page", FOLLOWED)
def test_whoever_follows_a_page_sees_what_it_shows(tmp_path: Path, page: str) -> None:
    """What is typed prints what is shown; a block that shows nothing may print what it likes."""
    followed = steps((ROOT / "docs" / page).read_text(encoding="utf-8"))
    script = f"\necho '{BETWEEN}'\n".join(step.typed for step in followed)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=environment(Path(sys.executable).parent),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for step, printed in zip(followed, done.stdout.split(BETWEEN), strict=True):
        if step.shown is not None:
            assert settled(printed) == settled(step.shown), step.typed


def test_the_proxys_settings_fit_the_servers() -> None:
    """Streams are not refused, the largest body passes, and the address is the one that serve has by default."""
    (config,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/how-to/run-behind-a-proxy.md").read_text(), re.DOTALL)
    given = dict(re.findall(r"^\s*(\w+) ([^;{]+);$", config, flags=re.MULTILINE))
    default = Settings()
    assert given["proxy_http_version"] == "1.1"
    assert int(given["client_max_body_size"].removesuffix("m")) * MIB > coded_max(default.batch_bytes_max) - MIB
    assert given["server"] == f"{default.host}:{default.port}"
    assert given["proxy_buffering"] == given["proxy_request_buffering"] == "off"
    assert config.count("{") == config.count("}")


def test_every_page_with_something_to_type_is_followed() -> None:
    """No block of the how-to pages, the tutorial and the explanations escapes the tests."""
    folders = [ROOT / "docs" / name for name in ("explanation", "how-to", "tutorial")]
    typed = {page for folder in folders for page in folder.glob("*.md") if "```sh" in page.read_text(encoding="utf-8")}
    assert {str(page.relative_to(ROOT / "docs")) for page in typed} <= {*FOLLOWED, *OF_ONE_INSTANT}


def test_a_generated_page_is_what_the_code_says_now(tmp_path: Path) -> None:
    """`make pages` writes them anew; here in a process of its own, whose commands nobody has called before."""
    subprocess.run([sys.executable, "-m", "tests.generated", str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    for name in PAGES:
        assert (FOLDER / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8"), name
