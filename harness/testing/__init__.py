"""Fakes and builders that stand in for a host and its guests; for harness's own tests and yours.

=================  ===============================================================================
``host``           ``FakeHost``: a Hypervisor with guests whose clocks stand still while paused
``guest``          ``FakeGuest``: one guest's clocks, boot id, kernel log, and what is to go wrong
``connector``      ``FakeConnector``: opens shells to guests in memory
``guest_shell``    the shell of such a guest: clock agent, probes' programs, the few commands
``guard``          ``FakeGuard``; ``guardian_thread``, the real guardian's loop in a thread
``hypervisor``     ``FakeHypervisor``: states and calls only, without guests behind them
``clock``          ``FakeClock``: moves when a test moves it, or when code sleeps
``agent``          ``FakeAgent``: one clock agent on a FakeClock
``local_shell``    ``LocalShell``: a shell whose guest is this machine, with real processes
``evidence``       what the checks see of a guest that was paused and suffered no harm
``runs``           run folders, records and journals without a run
``sshd``           a real OpenSSH server that belongs to one test (needs pytest)
``slow_way``       a TCP forwarder that delays each direction
``required``       what ``HARNESS_REQUIRE`` insists on
=================  ===============================================================================

Import the module that you need; nothing is loaded by importing this package.
"""
