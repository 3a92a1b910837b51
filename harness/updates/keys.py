"""Which keys of ``[update]`` may stand together. Pure.

Some belong to one kind only. Beside another kind in the same place such a key is a mistake. Where
a stronger place (a flag, the environment) asks for another kind than the file, what the file says
of its own kind is left out: ``harness run --kind stand-in`` rehearses any configuration.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from harness.core.errors import ConfigError
from harness.core.settings import KEYS_OF_KIND, UpdateSettings

_KIND = "update.kind"


def settle(
    values: Mapping[str, object], origins: Mapping[str, str], ranks: Mapping[str, int]
) -> dict[str, object]:
    """``values`` (by dotted key) without what was said of a kind that is not in force.

    ``ranks`` says how strong the place is that each value came from. Raises ConfigError for a key
    that is beside another kind in the same place, or in a stronger one.
    """
    kind = values.get(_KIND, UpdateSettings.kind)
    if not isinstance(kind, str) or kind not in KEYS_OF_KIND:
        return dict(values)  # the registry knows what to say of it
    kept = dict(values)
    for key in values:
        section, _, name = key.partition(".")
        owners = [owner for owner, keys in KEYS_OF_KIND.items() if name in keys]
        if section != "update" or not owners or kind in owners:
            continue
        if ranks[key] >= ranks.get(_KIND, -1):
            raise ConfigError(
                f"belongs to kind {' or '.join(owners)}, not to {kind}",
                file=origins[key],
                key=key,
                hint=_hint(kind, name),
            )
        del kept[key]
    return kept


def _hint(kind: str, name: str) -> str:
    own = sorted(KEYS_OF_KIND[kind])
    near = difflib.get_close_matches(name, own, n=1)
    return f"did you mean {near[0]!r}?" if near else f"keys of kind {kind}: {', '.join(own)}"
