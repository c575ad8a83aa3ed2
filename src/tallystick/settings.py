"""Every setting, declared once: flags, environment variables, TOML, documentation and tests derive from it.

Precedence: flag, `TALLYSTICK_<NAME>` in the environment, `TALLYSTICK_<NAME>_FILE` (a file that holds the value), the
TOML file, the default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, time
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
PREFIX = "TALLYSTICK_"
CONFIG_FILE = "tallystick.toml"
DEFINITIONS = ("rates", "meters")
"""What the settings file may define besides, in the order in which it is needed."""
KEY_OVERLAP_S_MAX = 30 * 86_400
DATA_FOLDER = Path("tallystick-data")
POSTGRES = ("postgresql://", "postgres://")
"""How the URL of a ledger in PostgreSQL begins."""

_DIGITS = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_BOOLEANS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
CHOICES = {"log_level": ("debug", "info", "warning", "error"), "metrics": ("open", "operator", "off")}
"""The settings that are one of a few words."""

_KEY = re.compile(r"[!-~]{32,512}", re.ASCII)
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]{0,49}", re.ASCII)


class SettingError(ValueError):
    """A setting that cannot be used; the message names it, says where it came from and what it may be."""


def setting(default: Any, help: str, *, min: int = 0, max: int | None = None, secret: bool = False) -> Any:
    """Declare a setting: its default, the sentence that flags and documentation show, and the bounds of a number."""
    return field(default=default, metadata={"help": help, "min": min, "max": max, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process, fixed from start to end."""

    data: Path = setting(DATA_FOLDER, "Folder of the embedded ledger.")  # noqa: RUF009 - it returns an immutable Path
    url: str | None = setting(None, "A ledger that is not in the data folder; memory: keeps nothing after the end.")
    primary_url: str | None = setting(
        None, "Where a server on a replica, which only reads, tells others to send what it cannot take."
    )
    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8787, "Port to listen on; 0 picks a free one.", max=65535)
    operator_key: str | None = setting(
        None,
        "An operator key for as long as it is set (32 or more visible ASCII characters); it is not stored.",
        secret=True,
    )

    event_bytes_max: int = setting(256 * 1024, "Largest event, in bytes of JSON.", min=1)
    batch_events_max: int = setting(100_000, "Most events in one request.", min=1)
    batch_bytes_max: int = setting(32 * MIB, "Largest request body, in bytes, after decompression.", min=1)
    zstd_window_bytes_max: int = setting(8 * MIB, "Largest window of a zstd request body, in bytes.", min=1, max=2**31)
    text_length_max: int = setting(
        256, "Longest id, source, type, subject, account, space or label value, in characters.", min=1
    )
    time_ahead_s_max: int = setting(300, "How far ahead of the clock an event's time may be, in seconds.")
    label_sets_max: int = setting(10_000, "Most label sets per meter, account and UTC month.", min=1)
    unique_values_max: int = setting(
        100_000,
        "Most distinct values that a meter of these counts per account and UTC month, in all label sets.",
        min=1,
    )
    accounts_created_by_events: bool = setting(
        True, "An operator's event for an unknown account creates it, as an organisation."
    )

    anonymous_account: str | None = setting(
        None,
        "The account whose usage vblaze's and phonexia's reports show to whoever sends no key; absent = they need one.",
    )
    deleted_datasets_counted: bool = setting(
        False, "Deleted datasets count in the credits that visii's report shows as used, as they do in refusals."
    )
    key_overlap_s: int = setting(
        86_400,
        "How long a key that is rotated stays valid beside its successor, in seconds, unless the request says.",
        max=KEY_OVERLAP_S_MAX,
    )

    hold_ttl_s: int = setting(600, "How long a hold lasts unless it says so or is renewed, in seconds.", min=1)
    hold_ttl_s_max: int = setting(86_400, "Longest that a hold may last without being renewed, in seconds.", min=1)

    replay_wait_s: int = setting(
        10, "How long a definition that counts kept events is waited for before it is answered 202, in seconds."
    )
    usage_rows_max: int = setting(1_000_000, "Most rows in one usage report.", min=1)
    page_rows_max: int = setting(
        1_000, "Most rows in one page of a listing, and how many it has unless asked for fewer.", min=1, max=100_000
    )

    receipts_max: int = setting(
        200, "Most receipts of events that were not accepted that are remembered for one account; 0 = none.", max=10_000
    )
    receipts_bytes_max: int = setting(
        16 * MIB, "About the most memory for receipts that are remembered, of all accounts."
    )

    queue_bytes_max: int = setting(
        256 * MIB, "Most bytes of events waiting for a commit; beyond it requests get 503.", min=1
    )
    commit_ms_max: int = setting(
        10, "About how long one commit may gather and write before it is made durable, in milliseconds."
    )
    identity_bytes_max: int = setting(
        512 * MIB, "Most memory for the identity index; what does not fit is read from disk."
    )
    rollup_bytes_max: int = setting(
        64 * MIB, "Most memory for rollups that reports read lately; what is not in it is unpacked again."
    )
    disk_free_bytes_min: int = setting(64 * MIB, "Free space below which events are refused with 507; reads go on.")

    verify_bytes_per_s: int = setting(
        4 * MIB, "How much of the log is read and checked again per second, round and round; 0 = none.", min=0
    )

    body_wait_s_max: int = setting(30, "Longest wait for the next part of a request body, in seconds.", min=1)
    drain_s_max: int = setting(15, "Longest wait at the end for requests that were already taken, in seconds.")
    dashboard: bool = setting(True, "Whether pages for people answer at / and below /dashboard.")
    dashboard_session_s: int = setting(
        43_200, "How long one stays signed in to the dashboard, in seconds.", min=1, max=30 * 86_400
    )

    metrics: str = setting(
        "open",
        "Who may read /metrics: open = everybody (accounts are named to an operator's key only), operator = an "
        "operator's key, off = nobody.",
    )
    metrics_accounts_max: int = setting(
        100, "Most accounts that /metrics names; the rest are together, as the account other."
    )
    log_level: str = setting("info", "Least severe log lines written: debug, info, warning or error.")


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Gather the settings from their sources and check each; a flag that is None was not given."""
    return Settings(**{name: value for name, (value, _) in resolve(flags or {}, environ or {}, config).items()})


def resolve(flags: Mapping[str, Any], environ: Mapping[str, str], config: Path | None) -> dict[str, tuple[Any, str]]:
    """Return every setting's value with where it came from, as a person would say it."""
    table = _read_config(config)
    return {spec.name: _resolve_one(spec.name, flags, environ, table, config) for spec in fields(Settings)}


def _resolve_one(
    name: str, flags: Mapping[str, Any], environ: Mapping[str, str], table: Mapping[str, Any], config: Path | None
) -> tuple[Any, str]:
    variable = PREFIX + name.upper()
    if flags.get(name) is not None:
        return _checked(name, flags[name], f"flag --{name.replace('_', '-')}")
    if variable in environ:
        return _checked(name, environ[variable], variable)
    if variable + "_FILE" in environ:
        return _checked(name, _read_secret(name, variable + "_FILE", environ), variable + "_FILE")
    if name in table:
        return _checked(name, table[name], str(config))
    return SPECS[name].default, "default"


def _checked(name: str, value: Any, origin: str) -> tuple[Any, str]:
    try:
        return _parse(name, value), origin
    except ValueError as error:
        raise SettingError(f"{name} (from {origin}): {error}") from None


def _parse(name: str, value: Any) -> Any:
    """Turn text or a TOML value into the setting's type; the message never repeats the value, which may be secret."""
    kind = SPECS[name].type
    if kind == "int":
        return _number(name, value)
    if kind == "bool":
        return _boolean(value)
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("must be text that is not empty")
    if kind == "Path":
        return Path(value)
    return _text(name, str(value))


def _number(name: str, value: Any) -> int:
    bounds = SPECS[name].metadata
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    allowed = f"from {bounds['min']}" + ("" if bounds["max"] is None else f" to {bounds['max']}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be a whole number {allowed}")
    if value < bounds["min"] or (bounds["max"] is not None and value > bounds["max"]):
        raise ValueError(f"must be a whole number {allowed}, not {value}")
    return value


def _boolean(value: Any) -> bool:
    parsed = value if isinstance(value, bool) else _BOOLEANS.get(str(value).strip().lower())
    if parsed is None:
        raise ValueError("must be true or false")
    return parsed


def _text(name: str, value: str) -> str:
    if name == "operator_key" and not _KEY.fullmatch(value):
        raise ValueError("must be 32 to 512 visible ASCII characters, without spaces")
    if name == "anonymous_account" and not _ACCOUNT.fullmatch(value):
        raise ValueError("must be the name of an account: 1 to 50 of a-z, 0-9 and -, not beginning with -")
    if name == "url" and value != "memory:" and not value.startswith(POSTGRES):
        raise ValueError("must be memory: or begin with postgresql:// (a folder is named by data)")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"must be {', '.join(CHOICES[name][:-1])} or {CHOICES[name][-1]}")
    return value


def _read_secret(name: str, variable: str, environ: Mapping[str, str]) -> str:
    path = Path(environ[variable])
    try:
        # One line end is what an editor or `echo` adds; nobody means it as part of a key.
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{name} (from {variable}): cannot read {path}: {_reason(error)}") from None


def read_definitions(config: Path | None) -> dict[str, Mapping[str, Any]]:
    """Return the tables of meters and rates in the settings file by name, with exact numbers and times as text."""
    table = {} if config is None else _read_toml(config)
    found = {name: _exact(table.get(name, {})) for name in DEFINITIONS}
    for name, definitions in found.items():
        if not isinstance(definitions, dict):
            raise SettingError(f"{name} (from {config}): must be a table, with a definition under each name")
    return found


def _read_config(config: Path | None) -> Mapping[str, Any]:
    if config is None:
        return {}
    table = _read_toml(config)
    for name in table:
        if name not in SPECS and name not in DEFINITIONS:
            raise SettingError(f"{name} (from {config}): there is no such setting{_nearest(name)}")
    return table


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise SettingError(f"cannot read the settings file {config}: {_reason(error)}") from None


def _exact(value: Any) -> Any:
    """Write the times of a TOML value as JSON has them: as text."""
    if isinstance(value, dict):
        return {name: _exact(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return value.isoformat() if isinstance(value, date | time) else value


def _nearest(name: str) -> str:
    close = get_close_matches(name, SPECS, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


SPECS = {spec.name: spec for spec in fields(Settings)}
