"""What holds for all tests: an example of hypothesis may take its time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long one example takes tells how busy the machine is, and nothing of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
