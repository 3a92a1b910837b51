"""The hypervisor's side: the only place that talks to libvirt.

:mod:`harness.host.protocol` says what the rest of the program may ask for;
:mod:`harness.host.driver` answers with libvirt. Nothing here knows SSH.
"""
