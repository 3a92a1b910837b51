"""What a maintenance costs by the number of guests; ``make bench-scale``."""
