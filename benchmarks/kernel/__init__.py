"""The host's kernel replaced under guests whose RAM stays: how long each part of it takes."""
