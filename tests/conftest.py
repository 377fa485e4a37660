"""Settings of all tests."""

from hypothesis import settings

# Derandomized, so that a failure is the same failure everywhere; no deadline, because machines that
# run tests are shared.
settings.register_profile("committee", derandomize=True, deadline=None, database=None)
settings.load_profile("committee")
