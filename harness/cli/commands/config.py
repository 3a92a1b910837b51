"""``harness config``: the settings of ``harness.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.commands.common import (
    connection_options,
    json_option,
    load_config,
    print_json,
    show_config,
)


@click.group()
def command() -> None:
    """The settings of harness.toml: what is in force; JSON schemas, of what harness prints too.

    docs/reference/settings.md has every key, with its flag, its variable and its default.
    """


@command.command(
    epilog="""\b
Example:
  harness config schema > harness.schema.json
  and as the first line of harness.toml, for editors with taplo or Even Better TOML:
  #:schema ./harness.schema.json
"""
)
@click.argument(
    "what",
    type=click.Choice(["harness.toml", "run.json", "rollout"]),
    default="harness.toml",
    metavar="[harness.toml|run.json|rollout]",
)
def schema(what: str) -> None:
    """Print the JSON schema of harness.toml, by which editors complete and check it.

    Or of run.json, the record of a run; or of what run and plan print with --rollout and --json.
    """
    print_json(_SCHEMAS[what]())


def _of_settings() -> dict[str, Any]:
    from harness.core.explained import json_schema
    from harness.updates.registry import FULL_CONFIG

    return json_schema(FULL_CONFIG)


def _of_run() -> dict[str, Any]:
    from harness.results.answer import schema_of_run

    return schema_of_run()


def _of_rollout() -> dict[str, Any]:
    from harness.results.answer import schema_of_answer

    return schema_of_answer()


_SCHEMAS = {"harness.toml": _of_settings, "run.json": _of_run, "rollout": _of_rollout}


@command.command(epilog="Example: harness config show -c /etc/harness/harness.toml")
@connection_options
@json_option
def show(config_file: Path | None, uri: str | None, as_json: bool) -> None:
    """Print the configuration in force as TOML, and where each value came from."""
    show_config(load_config(config_file, {"uri": uri}), as_json)
