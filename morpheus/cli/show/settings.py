"""Settings, checks, Prefect's server, versions."""

import json as jsonlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from morpheus.cli.show.text import as_json, lines, me, say, table

if TYPE_CHECKING:
    from morpheus.cli.checking import Answer
    from morpheus.cli.configuring import Changed, Entry, Places
    from morpheus.cli.server import Up


def places(found: "Places", *, json: bool) -> None:
    """Where settings, data and cache are."""
    if json:
        as_json(
            {key: value if isinstance(value, bool) else str(value) for key, value in asdict(found).items()}
        )
        return
    missing = "every setting has its default"
    if found.named:
        missing = (
            "MORPHEUS_CONFIG names it, so commands fail until morpheus config set KEY VALUE makes it or the "
            "variable is unset"
        )
    note = "" if found.exists else f"  (not there yet: {missing})"
    say(f"settings  {found.config}{note}", f"data      {found.data}", f"cache     {found.cache}")


def _setting(entry: "Entry") -> dict[str, Any]:
    return {"key": entry.key, "value": entry.shown(), "source": entry.source}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else jsonlib.dumps(value)


def settings(entries: Sequence["Entry"], *, json: bool) -> None:
    """Every setting, and who gave its value."""
    if json:
        as_json({"settings": [_setting(each) for each in entries]})
        return
    rows = ((each.key, _value(each.shown()), each.source) for each in entries)
    print(lines(*table(("KEY", "VALUE", "FROM"), *rows)))


def setting(entry: "Entry", *, reveal: bool, json: bool) -> None:
    """One setting."""
    value = entry.value if reveal else entry.shown()
    if json:
        as_json(_setting(entry) | {"value": value})
    else:
        say(_value(value))


def changed(result: "Changed", *, json: bool) -> None:
    """What the settings are now."""
    if json:
        as_json({"file": str(result.path), "settings": [_setting(each) for each in result.entries]})
        return
    for each in result.entries:
        wins = " here: the environment wins over the file" if each.source == "environment" else ""
        say(f"{each.key} is {_value(each.shown())}{wins}.")
    say(f"Settings: {result.path}")


def answers(given: Sequence["Answer"], *, json: bool) -> None:
    """What a check found, a line each."""
    if json:
        found = [{"part": each.part, "ok": not each.exit_code, "says": each.says} for each in given]
        as_json({"ok": all(each["ok"] for each in found), "answers": found})
        return
    say(*(f"{'FAIL' if each.exit_code else 'ok':4}  {each.part:8}  {each.says}" for each in given))


def server(up: "Up", *, json: bool) -> None:
    """Where Prefect runs now."""
    if json:
        as_json(
            {"ui": up.ui, "api": up.api, "auth_file": str(up.auth_file), "deployments": list(up.deployments)}
        )
        return
    say(
        f"Prefect runs at {up.ui}; log in with the line in {up.auth_file}",
        f"Deployments: {', '.join(up.deployments)}",
        f"Stop it: {me()} down",
    )


def stopped(*, was_running: bool, json: bool) -> None:
    if json:
        as_json({"stopped": was_running})
        return
    say("Prefect is stopped; forests stay as they are." if was_running else "Nothing was running.")


def versions(found: Mapping[str, str], *, json: bool) -> None:
    if json:
        as_json(dict(found))
        return
    say(*(f"{name} {version}" for name, version in found.items()))
