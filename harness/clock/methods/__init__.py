"""The methods of correction, by name.

To add one: a class, a line here, its name in ``harness.core.settings.MethodName``, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.clock.methods.absolute import DateAtSecond, GuestAgent
from harness.clock.methods.daemons import Chronyd, Ntpd, Timesyncd
from harness.clock.methods.protocol import Method
from harness.clock.methods.relative import PtpKvm, RelativeStep, Slew
from harness.clock.methods.windows import WindowsStep

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Slew(),
        Chronyd(),
        Timesyncd(),
        Ntpd(),
        WindowsStep(),
        RelativeStep(),
        PtpKvm(),
        DateAtSecond(),
        GuestAgent(),
    )
}
