"""Notify people and programs how a run or a night ended: a command, a mail, a webhook."""
