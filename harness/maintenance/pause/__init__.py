"""The critical section: guests are paused, the update runs, guests are resumed."""
