"""Gives the Python process that imports it at its start a date ``FAKED_DAYS`` days from now; the clock goes on."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

if days := os.environ.get("FAKED_DAYS"):
    import time_machine

    time_machine.travel(datetime.now(UTC) + timedelta(days=int(days)), tick=True).start()
