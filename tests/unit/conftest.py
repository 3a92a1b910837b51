"""How many examples are tried of what holds for all."""

from hypothesis import settings

# For `make test-quick`; `make test` tries as many as Hypothesis does by itself.
settings.register_profile("quick", max_examples=25)
