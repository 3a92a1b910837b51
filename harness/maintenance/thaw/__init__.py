"""Guests that one kernel of the host hands over to the next: the plan, and bringing them back."""
