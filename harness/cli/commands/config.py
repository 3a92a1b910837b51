"""``harness config``: the settings of ``harness.toml``."""

from __future__ import annotations

from pathlib import Path

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
    """The settings of harness.toml: a JSON schema for editors, what is in force.

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
def schema() -> None:
    """Print the JSON schema of harness.toml, by which editors complete and check it."""
    from harness.core.explained import json_schema
    from harness.updates.registry import FULL_CONFIG

    print_json(json_schema(FULL_CONFIG))


@command.command(epilog="Example: harness config show -c /etc/harness/harness.toml")
@connection_options
@json_option
def show(config_file: Path | None, uri: str | None, as_json: bool) -> None:
    """Print the configuration in force as TOML, and where each value came from."""
    show_config(load_config(config_file, {"uri": uri}), as_json)
