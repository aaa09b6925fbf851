"""Run ``python -m airflow_claude_batch``."""

from __future__ import annotations

import sys

from airflow_claude_batch.cli import main

sys.exit(main())
