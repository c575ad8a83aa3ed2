"""Every setting, declared once: flags, environment variables, TOML, documentation and tests derive from it.

Precedence: flag, `TALLYSTICK_<NAME>` in the environment, `TALLYSTICK_<NAME>_FILE` (a file that holds the value), the
TOML file, the default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


def setting(default: Any, help: str) -> Any:
    """Declare a setting: its default, and the one sentence that flags and documentation show."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process, fixed from start to end."""

    data: Path = setting(Path("tallystick-data"), "Folder of the embedded ledger.")
    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8787, "Port to listen on; 0 picks a free one.")
    operator_key: str | None = setting(None, "An operator key for as long as it is set (32 or more visible ASCII characters); it is not stored.")

    event_bytes_max: int = setting(256 * 1024, "Largest event, in bytes of JSON.")
    batch_events_max: int = setting(100_000, "Most events in one request.")
    batch_bytes_max: int = setting(32 * MIB, "Largest request body, in bytes, after decompression.")
    text_length_max: int = setting(256, "Longest id, source, type, subject, account, space or label value, in characters.")
    time_ahead_s_max: int = setting(300, "How far ahead of the clock an event's time may be, in seconds.")
    label_sets_max: int = setting(10_000, "Most label sets per meter, account and UTC month.")
    accounts_created_by_events: bool = setting(True, "An operator's event for an unknown account creates it, as an organisation.")

    usage_rows_max: int = setting(1_000_000, "Most rows in one usage report.")

    queue_bytes_max: int = setting(256 * MIB, "Most bytes of events waiting for a commit; beyond it requests get 503.")
    commit_ms_max: int = setting(10, "About how long one commit may gather and write before it is made durable, in milliseconds.")
    identity_bytes_max: int = setting(512 * MIB, "Most memory for the identity index; what does not fit is read from disk.")
    disk_free_bytes_min: int = setting(64 * MIB, "Free space below which events are refused with 507; reads go on.")
