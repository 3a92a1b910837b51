"""The command line: the only place that turns outcomes into exit codes."""
