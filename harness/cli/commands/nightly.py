"""``harness nightly``: the whole night with one exit code and one line."""

from __future__ import annotations

import platform
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness.cli import collectors, telling
from harness.cli.commands.common import json_option, print_json, say, show_config_option, spoken
from harness.cli.commands.common import show_config as print_config
from harness.cli.commands.maintenance_options import load_maintenance, maintenance_options
from harness.core.paths import state_dir
from harness.core.signals import ended_by_any_signal


class _Nightly(click.Command):
    """A night whose files are replaced also where its command line is refused."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        given = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            from harness.cli.night_files import NightFiles

            files = NightFiles.asked_for(given)
            for failed in files.refuse(error.format_message(), error.exit_code):
                say(f"warning: {failed}")
            raise


@click.command(
    cls=_Nightly,
    epilog="""\b
Examples:
  harness nightly -c /etc/harness/harness.toml --repeat 6 --fail-on-regression
  harness nightly --prometheus /var/lib/prometheus/node-exporter/harness.prom
  harness nightly | mail -s "$(head -1)" you@example.org
""",
)
@maintenance_options
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Runs; the first of several is a warm-up and not counted.",
)
@click.option(
    "--nights",
    type=click.IntRange(1),
    default=14,
    show_default=True,
    help="How many comparable nights before to compare with.",
)
@click.option("--fail-on-regression", is_flag=True, help="Exit code 1 if a figure got worse.")
@click.option(
    "--prometheus",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write metrics for node_exporter's textfile collector.",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write JUnit XML there too, for a CI server.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan of its runs and stop.")
@show_config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    repeat: int,
    nights: int,
    fail_on_regression: bool,
    prometheus: Path | None,
    junit: Path | None,
    dry_run: bool,
    show_config: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """doctor, runs, report, history, verdict: one exit code, one line for a mail's subject.

    After a run that is not healthy there is no other. The exit code is the loudest of all runs'.
    """
    from harness.cli.night_files import NightFiles
    from harness.cli.nightly import look_back, publish, spend
    from harness.maintenance.named import is_pattern

    if show_config:
        print_config(load_maintenance(config_file, uri, options), as_json)
        return
    if dry_run:
        from harness.cli.commands.run import show_plan

        show_plan(load_maintenance(config_file, uri, options), guests, as_json=as_json)
        return

    named = tuple(guest for guest in guests if not is_pattern(guest))
    files = NightFiles(prometheus, junit, named)
    with ended_by_any_signal(), files.replaced():
        from harness.api import maintain
        from harness.cli.doctor import examine
        from harness.results.publish import finish

        loaded = load_maintenance(config_file, uri, options)
        notify = loaded.config.notify
        telling.check(notify)
        collectors.check(loaded.config)
        carry_out = partial(
            maintain,
            loaded.config,
            guests,
            config_file=loaded.file,
            between=lambda finished: finish(finished.folder),
        )
        night = spend(
            findings=examine(loaded.config, state_dir(), guests=guests),
            rehearse=telling.at_once(carry_out, notify, say),
            finish=lambda folder: [
                *finish(folder),
                *collectors.tell_of_run(folder, loaded.config, state_dir()),
            ],
            repeat=repeat,
            say=say,
        )
        night = look_back(night, nights=nights, fail_on_regression=fail_on_regression)
        night = publish(night, files)
    for warning in night.warnings:
        say(f"warning: {warning}")
    host = night.runs[0].host.hostname if night.runs else platform.node()
    with spoken():
        if as_json:
            print_json(night.as_data(host))
        else:
            click.echo(night.summary(host))
    with spoken():
        for problem in telling.of_night(night, host, notify):
            say(f"warning: {problem}")
    ctx.exit(night.exit_code)
