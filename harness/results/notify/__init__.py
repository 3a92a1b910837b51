"""People and programs are told how a run or a night ended: a command, a mail, a webhook."""
