"""What every room speaks: errors, time, records, settings, configuration, signals, identity."""
