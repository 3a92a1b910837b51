"""Rehearse and measure memory-preserving host maintenance on KVM.

The way of the data: config → plan → pause window → clock → checks → report.
``docs/explanation/design.md`` says what is out of scope first, then how it fits together.
"""

__version__ = "0.1.0"
