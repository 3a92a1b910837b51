"""What can be applied to a host while its guests are paused: one kind a module.

:mod:`harness.updates.protocol` says what a kind must offer; :mod:`harness.updates.registry` knows
them by name.
"""
