"""One transaction of apt: simulated at plan time, done as simulated, proven, undone.

With ``repository`` packages come from that folder alone, by an index of our own in the state
folder; else from wherever apt gets them on this host, downloaded before any guest is paused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from harness.core.errors import ConfigError, NotNeeded, PlanError, UpdateFailed
from harness.core.files import private_folder
from harness.core.settings import Name
from harness.core.timebase import Deadline
from harness.core.trust import refuse_untrusted_tree
from harness.updates import dpkg, reboot
from harness.updates.protocol import Site, UpdateContext, UpdateSettings
from harness.updates.requirements import ASK_S, ask, require_program
from harness.updates.runner import Runner
from harness.updates.transaction import Change, parse, refusal, remarks

_KEY = "update.packages"
_WORD = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?")
#: There is no person to ask, and nothing but the transaction happens in the window: needrestart
#: would restart services after it.
QUIET = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
_KEEP_CONFIGURATION = (
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
)

#: Everything is here by then. Not --no-download: with that, apt loses the path of what comes from a
#: file: source and fails.
_OFFLINE = ("-o", "Dir::Bin::Methods::http=false", "-o", "Dir::Bin::Methods::https=false")


class AptSettings(UpdateSettings):
    """What the kinds that install packages have in common."""

    packages: tuple[Name, ...] = ()
    """Files (a word with a slash), names, or ``name=version``."""
    repository: Path | None = None
    """Folder of a local repository, the only one that packages then come from."""
    previous: Path | None = None
    """Folder with the .deb files of the versions that are replaced, for a rollback."""
    hold: tuple[Name, ...] = ()
    """Packages that the transaction must not change."""
    reinstall: bool = False
    """Whether packages that are as wanted already are installed again."""
    simulate: bool = False
    """Go through the transaction and change nothing."""


class AptTransaction:
    """The packages of one update."""

    def __init__(self, settings: AptSettings, site: Site) -> None:
        self._settings = settings
        self._site = site
        self._words = [str(Path(w).absolute()) if "/" in w else w for w in settings.packages]
        self._repository = settings.repository.absolute() if settings.repository else None
        self._debs: Mapping[Change, Path] = {}
        """Of the versions before, for the way back."""
        self._files: dict[Change, tuple[str, ...]] = {}
        """What the new versions bring, as far as they are here."""
        self._asking: frozenset[str] = frozenset()
        self._left_over: frozenset[str] = frozenset()
        self.changes: tuple[Change, ...] = ()
        self.warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What it changes, for people."""
        said = ", ".join(str(change) for change in self.changes)
        return f"simulated only: {said}" if self._settings.simulate else said

    def check(self) -> None:
        """Simulate it, and judge what it would change.

        Raises ConfigError, MissingCapability, UpdateFailed where dpkg is not fit, and PlanError for
        what cannot be done under paused guests.
        """
        deadline = Deadline.after(ASK_S)
        for program in ("apt-get", "dpkg", "dpkg-query", "dpkg-deb"):
            require_program(program, "apt and dpkg: this kind is for Debian and what is made of it")
        self._check_words()
        dpkg.require_health(deadline)
        if self._repository is not None:
            self._check_repository(self._repository)
            ask([*self._apt(), "update"], deadline, refusal_is="update.repository")
        self.changes = self._simulated(deadline)
        self._judge(deadline)
        self._left_over = frozenset(dpkg.known(self._names(), deadline))
        before = {change: change.before for change in self.changes}
        self._debs = dpkg.holding(before, self._folders(), deadline)
        said = [f"the update changes: {self.summary}", *remarks(self.changes), *reboot.awaited()]
        if lacking := self._without_way_back():
            said.append(
                f"it cannot be rolled back: no .deb of {', '.join(lacking)} is here "
                "(update.previous names a folder to look in)"
            )
        self.warnings = tuple(said)

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Download what has to be, and see that nothing has changed since the plan.

        Raises UpdateFailed, and PlanError where what is here only now takes a reboot.
        """
        if not self._settings.simulate:
            ask([*self._install(), "--download-only"], deadline)
        dpkg.require_health(deadline)
        if (now := self._simulated(deadline)) != self.changes:
            said = ", ".join(str(change) for change in now) or "nothing"
            raise UpdateFailed(f"the update would now change {said}, not what was planned")
        self._refuse(deadline)
        self._asking = reboot.asking()

    def install(self, runner: Runner, context: UpdateContext, deadline: Deadline) -> Path:
        """Do it; where its output is."""
        how = ["--simulate"] if self._settings.simulate else [*_OFFLINE]
        return runner.run("update", [*self._install(), *how], context, deadline, QUIET)

    def verify(self, deadline: Deadline) -> None:
        """Check that dpkg is content, versions are as planned, and no package asks for a reboot."""
        dpkg.expect_audited(deadline)
        simulated = self._settings.simulate
        self._expect({c.name: c.before if simulated else c.after for c in self.changes}, deadline)
        if asking := reboot.asking() - self._asking:
            raise UpdateFailed(
                f"{', '.join(sorted(asking))} asks for a reboot of the host ({reboot.MARK}), and "
                "the update is not in force without one",
                hint="a reboot does not preserve memory: move or shut down the guests for it",
            )

    def rollback(self, runner: Runner, context: UpdateContext, deadline: Deadline) -> None:
        """Put the versions back that were there before; safe to repeat.

        By dpkg, which needs no index and completes what apt was torn out of.
        """
        now = dpkg.installed(self._names(), deadline)
        undone = [change for change in self.changes if now.get(change.name) != change.before]
        lacking = self._without_way_back()
        if undone and lacking:
            raise UpdateFailed(
                f"cannot be rolled back, as was warned: no .deb of {', '.join(lacking)} is here",
                hint="dpkg --audit and apt-get -f install say what is to be fixed",
            )
        if old := [str(self._debs[change]) for change in undone if change.before is not None]:
            words = ["dpkg", "--force-confdef", "--force-confold", "--install", *old]
            runner.run("rollback", words, context, deadline, QUIET)
        new = [change.name for change in undone if change.before is None]
        for how in ("--remove", "--purge"):  # configuration that was there before stays
            if names := [n for n in new if (n in self._left_over) == (how == "--remove")]:
                runner.run("rollback", ["dpkg", how, *names], context, deadline, QUIET)
        pending = ["dpkg", "--configure", "--pending"]  # triggers of an apt that was ended
        runner.run("rollback", pending, context, deadline, QUIET)
        dpkg.expect_audited(deadline)
        self._expect({change.name: change.before for change in self.changes}, deadline)

    def _names(self) -> list[str]:
        return [change.name for change in self.changes]

    def _check_words(self) -> None:
        for word in self._words:
            if "/" in word:
                dpkg.require_deb(Path(word), _KEY)
            elif word.endswith(".deb"):
                hint = f"a file is named with a slash: ./{word}"
                raise ConfigError(f"{word!r} is no name of a package", key=_KEY, hint=hint)
            elif not _WORD.fullmatch(word):
                raise ConfigError(f"{word!r} is no name of a package", key=_KEY)
        previous = self._settings.previous
        if previous is not None:
            if not previous.is_dir():
                raise ConfigError(f"{previous}: no such folder", key="update.previous")
            refuse_untrusted_tree(previous, key="update.previous")

    def _check_repository(self, folder: Path) -> None:
        key = "update.repository"
        if not any(Path(folder, name).is_file() for name in ("Packages", "Packages.gz")):
            hint = f"cd {folder} && dpkg-scanpackages . > Packages"
            raise ConfigError(f"{folder} has no index (Packages)", key=key, hint=hint)
        refuse_untrusted_tree(folder, key=key)  # what is in it is installed as root
        home = self._home(folder)
        try:
            private_folder(home / "lists" / "partial")
            source = f"deb [trusted=yes] file:{quote(str(folder))} ./\n"
            (home / "sources.list").write_text(source)
        except OSError as error:
            raise UpdateFailed(f"cannot keep an index in {home}: {error.strerror}") from error

    def _judge(self, deadline: Deadline) -> None:
        if not self.changes:
            hint = "reinstall = true does it again"
            raise NotNeeded("nothing would change; it is installed", key=_KEY, hint=hint)
        self._refuse(deadline)
        for change in self.changes:
            if change.package in self._settings.hold:
                raise ConfigError(f"would change {change}, which is held", key="update.hold")

    def _refuse(self, deadline: Deadline) -> None:
        """Raises PlanError for what, by all that is known now, paused guests do not outlive."""
        unread = {c: c.after for c in self.changes if c not in self._files}
        named = [Path(word) for word in self._words if "/" in word]
        debs = dpkg.holding(unread, [*named, *self._folders()], deadline)
        self._files |= {change: dpkg.paths(deb, deadline) for change, deb in debs.items()}
        if reason := refusal(self.changes, self._files):
            hint = "move or shut down the guests and do it without harness"
            raise PlanError(f"the update ({self._settings.kind}) is refused: {reason}", hint=hint)

    def _simulated(self, deadline: Deadline) -> tuple[Change, ...]:
        return parse(ask([*self._install(), "--simulate"], deadline, refusal_is=_KEY))

    def _install(self) -> list[str]:
        again = ["--reinstall"] if self._settings.reinstall else []
        return [*self._apt(), "--yes", *_KEEP_CONFIGURATION, *again, "install", *self._words]

    def _apt(self) -> list[str]:
        if self._repository is None:
            return ["apt-get"]
        home = self._home(self._repository)
        settings = {
            "Dir::Etc::SourceList": home / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": home / "lists",
            "Dir::Cache::PkgCache": "",
            "Dir::Cache::SrcPkgCache": "",
            "APT::Sandbox::User": "root",  # the state folder is harness's own
        }
        return ["apt-get", *(w for k, v in settings.items() for w in ("-o", f"{k}={v}"))]

    def _home(self, repository: Path) -> Path:
        name = hashlib.sha256(str(repository).encode()).hexdigest()[:16]
        return (self._site.state_dir or Path()) / "repositories" / name

    def _folders(self) -> list[Path]:
        return [f for f in (self._settings.previous, self._repository, dpkg.ARCHIVES) if f]

    def _without_way_back(self) -> list[str]:
        if self._settings.simulate:
            return []
        lost = [c for c in self.changes if c.before is not None and c not in self._debs]
        return [f"{change.name} {change.before}" for change in lost]

    def _expect(self, versions: Mapping[str, str | None], deadline: Deadline) -> None:
        found = dpkg.installed(versions, deadline)
        for name, version in versions.items():
            if found.get(name) != version:
                raise UpdateFailed(
                    f"{name} is {found.get(name) or 'not installed'}, not {version or 'gone'}"
                )
