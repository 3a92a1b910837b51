"""Which database a command about a fleet asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.commands.common import load_config
from harness.core.errors import ConfigError
from harness.core.extras import require

if TYPE_CHECKING:
    from harness.fleet.database import FleetDatabase

database_option = click.option(
    "--database",
    metavar="URL",
    help="Database that the hosts share.  [default: fleet.database of the configuration]",
)


def fleet_database(config_file: Path | None, url: str | None) -> FleetDatabase:
    """Return the database that is configured, or given. Raises ConfigError if none is."""
    found = load_config(config_file, {"fleet.database": url}).config.fleet.database
    if found is None:
        raise ConfigError(
            "no database is configured",
            key="fleet.database",
            hint="--database postgresql://USER@HOST/DATABASE, or [fleet] database",
        )
    require("history", "the database of a fleet")
    from harness.fleet.database import FleetDatabase

    return FleetDatabase(found)
