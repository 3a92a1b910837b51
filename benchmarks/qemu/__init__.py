"""What replacing a guest's QEMU costs, beside other ways; see ``__main__``."""
