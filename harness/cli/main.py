"""The command line; the only place that turns outcomes and errors into exit codes.

0 pass · 1 a promise was broken · 2 usage or configuration · 3 could not judge · 4 a guest is
still paused · with --rollout: 5 not now, 6 not needed · 130 interrupted, everything resumed.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn

import click

from harness import __version__
from harness.cli.commands.refusals import (
    Spoken,
    exit_code_of,
    in_our_words,
    note_what_was_asked_for,
    print_error,
    tell_error,
)
from harness.core.errors import (
    HarnessError,
    InternalError,
    Interrupted,
    UsageError,
)
from harness.core.process_state import settle_process
from harness.core.spare_memory import share_one_heap
from harness.core.streams import lost_output

#: name → one line of help. The module ``harness.cli.commands.<name>`` is loaded only when needed,
#: so that ``--help`` and completion are quick.
COMMANDS = {
    "doctor": "Check whether this host can run a maintenance, and how to fix what is missing.",
    "init": "Write a first harness.toml for the guests that run; trust, then doctor.",
    "trust": "Show guests' SSH host keys, and add those you confirm to known_hosts.",
    "lab": "Real guests to try it on: up, status, ssh, down, try, build, box.",
    "plan": "Show update domains and their order; touches nothing.",
    "run": "The maintenance: pause, update, resume, correct clocks, check.",
    "adopt": "Make running guests eligible for an update of kind qemu, without a reboot.",
    "hold": "Pause guests to look around; they are resumed within the budget.",
    "status": "Who holds this host, what is paused, what is scheduled, the last runs.",
    "setup-host": "Prepare this host for updates of kinds qemu and kernel; --undo takes it back.",
    "recover": "Finish what a dead run left: resume guests, correct their clocks.",
    "lock": "Show who holds this host, or reserve it for a while.",
    "clock": "Measure or correct guests' clocks without pausing them.",
    "events": "Tell guests beforehand: serve, schedule, list, approve, cancel, rehearse.",
    "config": "The settings of harness.toml: a JSON schema for editors, what is in force.",
    "report": "Show a run again: table, page, JUnit or JSON.",
    "history": "Runs over time: list, compare, trend, regression verdict.",
    "nightly": "doctor, runs, report, history, verdict; one exit code, one line.",
    "fleet": "Many hosts: in which waves they are done, and how far they are.",
    "experiment": "A grid of runs from a file, in random order; tidy results and plots.",
}

EPILOG = """\b
Examples:
  harness lab try -n 3                     a whole maintenance on three guests of its own
  harness init                             a first harness.toml for the guests that run
  harness doctor                           can this box do it?
  harness plan web1 web2                   what would happen
  harness run web1 web2 --update "./apply-patch.sh --now"
  harness clock show web1                  how wrong is its clock?
  harness report --open                    the newest run as a page

\b
Exit codes: 0 pass, 1 a promise was broken, 2 usage or configuration,
  3 could not judge, 4 a guest is still paused, 130 interrupted (all resumed);
  with --rollout also 5 not now, 6 not needed.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which ``--help`` shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"harness.cli.commands.{name.replace('-', '_')}")
        command: click.Command = module.command
        _take_verbose(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of ``args``. Raises UsageError with the nearest if there is none."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from harness.core.nearest import nearest

            hint = nearest(name, COMMANDS, "commands")
            raise UsageError(f"no such command {name!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _log_more(ctx: click.Context | None, param: click.Parameter | None, count: int) -> int:
    """Log what ``-v`` and ``-vv`` ask for, wherever they stand; nothing takes it back."""
    if count:
        logging.getLogger("harness").setLevel(logging.DEBUG if count > 1 else logging.INFO)
    if count > 1:
        logging.getLogger().setLevel(logging.DEBUG)  # that of libraries too
    return count


def _take_verbose(command: click.Command) -> None:
    """Have a command, and those below it, take ``-v`` too, except one that hands its words on."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _take_verbose(below)
    hands_on = command.context_settings.get("ignore_unknown_options")
    if not hands_on and not any("-v" in one.opts for one in command.params):
        command.params.append(
            click.Option(
                ["-v", "--verbose"],
                count=True,
                expose_value=False,
                hidden=True,
                callback=_log_more,
            )
        )


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="harness")
@click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_log_more,
    help="Say more, also after a command; -vv shows tracebacks.",
)
def cli() -> None:
    """Rehearse and measure memory-preserving host maintenance on KVM.

    Guests are paused with their RAM in place, the host is updated, the guests are resumed within
    a budget (30 s), and their clocks are measured and corrected over SSH, with evidence.
    """
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")


def main() -> NoReturn:
    """Entry point: run the command line and end with the code that its outcome means.

    Without taking the interpreter down: a thread that was given up may still be inside libvirt,
    and must not come back into an interpreter that is gone.
    """
    for warning in settle_process():
        sys.stderr.write(f"warning: {warning}\n")
    share_one_heap()
    code = run_command_line(None)
    lost = lost_output()
    if lost is not None and code == 0:
        code = _say_lost(lost)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def _say_lost(lost: OSError) -> int:
    """A result that was not read; a reader that has read enough is no error."""
    if lost.errno == errno.EPIPE:
        return 141
    sys.stderr.write(f"harness: the result could not be written: {lost.strerror}\n")
    return 3


def run_command_line(arguments: list[str] | None) -> int:
    """Carry out one command line (None: this process's own); its exit code."""
    Spoken.wanted = Spoken.said = False
    Spoken.rollout = None
    given = sys.argv[1:] if arguments is None else arguments
    action = partial(cli.main, arguments, prog_name="harness", standalone_mode=False)
    return exit_code(action, given)


def exit_code(action: Callable[[], object], arguments: list[str] | None = None) -> int:
    """Carry out ``action``; return the exit code that it asks for, or that its error means.

    ``arguments`` are those that ``action`` reads.
    """
    try:
        result = action()
        return result if isinstance(result, int) else 0
    except HarnessError as error:
        return _say(error)
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its help, all of it
            error.show()
            return error.exit_code
        note_what_was_asked_for(error, arguments or [])
        return _say(in_our_words(error))
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit as error:
        return error.code if error.code == 0 else _say_bug(error)  # 0: a completion, all printed
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, click.Abort):  # at a question: its line is not ended
            click.echo(err=True)
        click.echo("interrupted", err=True)  # what commands do to guests, they end by themselves
        if Spoken.rollout is not None:
            print_error(Interrupted("SIGINT", said="this command has paused no guest"))
        return 130
    except BaseException as error:  # noqa: BLE001  a SystemExit of click's or rich's too
        return _say_bug(error)


def _say_bug(error: BaseException) -> int:
    """Name the class of an error that nothing here expects; never 1: a promise is not broken."""
    if isinstance(error, SystemExit):  # made by a library of what had gone wrong
        error = error.__context__ or error
    return _say(InternalError(error))


def _debugging() -> bool:
    return "-vv" in sys.argv or logging.getLogger().isEnabledFor(logging.DEBUG)


def _say(error: HarnessError) -> int:
    """One or two lines with a hint; with -vv the traceback too."""
    if _debugging():
        traceback.print_exception(error)
    with suppress(OSError, ValueError):  # the terminal may be gone; the exit code says it too
        if Spoken.told is not error:
            tell_error(error)
        print_error(error)
    return exit_code_of(error)
