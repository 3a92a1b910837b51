"""Kind ``qemu``: the QEMU of running guests is replaced while they are paused, RAM in place."""
