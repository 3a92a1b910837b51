"""From one kernel to the next: loading and starting it, and what it needs before its init runs."""
