"""Kind ``kernel``: the host's kernel is replaced by kexec while guests' RAM stays where it is."""
