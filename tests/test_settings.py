"""Settings: which source wins, and errors that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.settings import SPECS, SettingError, Settings, load, resolve

KEY = "k" * 32


def test_without_sources_every_setting_has_its_default() -> None:
    """Nothing given means the declared defaults."""
    assert load() == Settings()


def test_flags_win_over_environment_over_secret_files_over_toml_over_defaults(tmp_path: Path) -> None:
    """Each source is asked only when those before it are silent, and the origin is known."""
    config = tmp_path / "tallystick.toml"
    config.write_text('port = 1\nhost = "one"\nlog_level = "error"\noperator_key = "' + "t" * 32 + '"\n')
    secret = tmp_path / "key"
    secret.write_text(KEY + "\n")
    environ = {"TALLYSTICK_PORT": "2", "TALLYSTICK_HOST": "two", "TALLYSTICK_OPERATOR_KEY_FILE": str(secret)}
    found = resolve({"port": "3", "host": None}, environ, config)
    assert found["port"] == (3, "flag --port")
    assert found["host"] == ("two", "TALLYSTICK_HOST")
    assert found["operator_key"] == (KEY, "TALLYSTICK_OPERATOR_KEY_FILE")
    assert found["log_level"] == ("error", str(config))
    assert found["event_bytes_max"] == (256 * 1024, "default")


def test_every_setting_can_come_from_the_environment() -> None:
    """A setting added to the declaration is readable from its variable without further code."""
    words = {"url": "memory:", "metrics": "off", "str": "debug", "str | None": KEY}
    given = {**words, "int": "7", "bool": "off", "Path": "folder"}
    wanted = {**words, "int": 7, "bool": False, "Path": Path("folder")}
    for name, spec in SPECS.items():
        kind = name if name in given else str(spec.type)
        settings = load({}, {f"TALLYSTICK_{name.upper()}": given[kind]})
        assert getattr(settings, name) == wanted[kind]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TALLYSTICK_PORT", "eighty", "port (from TALLYSTICK_PORT): must be a whole number from 0 to 65535"),
        ("TALLYSTICK_PORT", "65536", "port (from TALLYSTICK_PORT): must be a whole number from 0 to 65535, not 65536"),
        ("TALLYSTICK_PORT", "１", "port (from TALLYSTICK_PORT): must be a whole number from 0 to 65535"),
        ("TALLYSTICK_PORT", "8_0", "port (from TALLYSTICK_PORT): must be a whole number from 0 to 65535"),
        ("TALLYSTICK_BATCH_EVENTS_MAX", "0", "batch_events_max (from TALLYSTICK_BATCH_EVENTS_MAX): must be a whole"),
        ("TALLYSTICK_ACCOUNTS_CREATED_BY_EVENTS", "maybe", "must be true or false"),
        ("TALLYSTICK_HOST", "", "host (from TALLYSTICK_HOST): must be text that is not empty"),
        ("TALLYSTICK_OPERATOR_KEY", "short", "operator_key (from TALLYSTICK_OPERATOR_KEY): must be 32 to 512"),
        ("TALLYSTICK_OPERATOR_KEY_FILE", "nowhere/key", "cannot read nowhere/key: No such file"),
        ("TALLYSTICK_URL", "memroy:", "url (from TALLYSTICK_URL): must be memory: or begin with postgresql://"),
        ("TALLYSTICK_METRICS", "public", "metrics (from TALLYSTICK_METRICS): must be open, operator or off"),
        ("TALLYSTICK_LOG_LEVEL", "loud", "must be debug, info, warning or error"),
        ("TALLYSTICK_ANONYMOUS_ACCOUNT", "Acme", "must be the name of an account"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_and_the_origin(variable: str, value: str, said: str) -> None:
    """Whoever set it can find it."""
    with pytest.raises(SettingError) as caught:
        load({}, {variable: value})
    assert said in str(caught.value)


def test_an_error_never_repeats_a_secret() -> None:
    """An operator key that is refused does not reach a log."""
    with pytest.raises(SettingError) as caught:
        load({}, {"TALLYSTICK_OPERATOR_KEY": "not long enough secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "there is no such setting; did you mean port?"),
        ("[server]\nport = 1", "server (from"),
        ("port = true", "must be a whole number"),
        ("port = 1.0", "must be a whole number"),
        ("host = 1", "must be text"),
        ("port =", "cannot read the settings file"),
    ],
)
def test_a_bad_settings_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Unknown names and wrong types in TOML are errors, not silence."""
    config = tmp_path / "settings.toml"
    config.write_text(text)
    with pytest.raises(SettingError) as caught:
        load({}, {}, config)
    assert said in str(caught.value)


def test_a_settings_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A file that was named must be readable."""
    with pytest.raises(SettingError, match="No such file"):
        load({}, {}, tmp_path / "none.toml")
