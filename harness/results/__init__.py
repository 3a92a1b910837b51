"""What a run leaves on disk, and everything that is read from it."""
