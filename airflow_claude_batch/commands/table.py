"""The commands. A new one needs an entry here, and its module in this package."""

from __future__ import annotations

from typing import Final

from airflow_claude_batch._airflow.answers_arguments import ANSWERS_COMMANDS, DESCRIPTION
from airflow_claude_batch.commands.definition import (
    CONN_ID,
    MAP_INDEX,
    NAMES,
    OUTPUT,
    YES,
    Argument,
    Command,
    argument,
    count,
    day,
)

#: The states of a submission, see ``_airflow/states.py``.
STATES: Final = ("working", "approval", "running", "sent", "ended", "failed", "skipped", "stopped")
#: The statuses of a row, and all of those without an answer.
STATUSES: Final = ("succeeded", "invalid_output", "errored", "expired", "canceled", "missing", "failed")

_ORPHANS: Final = (
    argument("--orphans", action="store_true", help="list the message batches that no submission knows"),
    argument("--days", type=count, default=30, help="with --orphans: of the last days; default: 30"),
    argument("--results-path", action="append", metavar="PATH", help="with --orphans: a further results_path of tasks"),
    CONN_ID,
)
_LIST: Final = Command(
    "list",
    "List submissions, those that have changed last first",
    "list_submissions",
    (
        argument("--open", action="store_true", help="only those that run or may bill"),
        argument("--ended", action="store_true", help="only the others"),
        argument("--dag", action="append", metavar="DAG_ID", help="only those of this DAG; may be repeated"),
        argument("--state", choices=STATES, help="only those in this state"),
        argument("--day", type=day, metavar="YYYY-MM-DD", help="only those that changed last on this day (UTC)"),
        argument("--limit", type=count, default=50, help="the most to list; default: 50"),
        *_ORPHANS,
        OUTPUT,
    ),
)
_SHOW: Final = Command("show", "Show everything that is known of a submission", "show", (NAMES, MAP_INDEX, OUTPUT))
_ROWS: Final = Command(
    "rows",
    "Read the rows of a submission",
    "rows",
    (
        argument(
            "names", nargs="+", metavar="ID | DAG RUN TASK | PATH", help="a submission, a task, or a results file"
        ),
        MAP_INDEX,
        argument(
            "--status", action="append", choices=STATUSES, help="only these; may be repeated; failed: all but succeeded"
        ),
        argument("--key", action="append", help="only the row with this key; may be repeated"),
        argument("--limit", type=count, help="the most to read"),
        argument("-o", "--output", choices=("table", "json", "csv"), default="table", help="default: table"),
    ),
)
_IDS: Final = argument("ids", nargs="+", metavar="ID", help="message batches, or submissions with all of their batches")
_PRICE: Final = Command(
    "price",
    "Say what message batches have cost, and what running ones are expected to cost",
    "price",
    (_IDS, CONN_ID, OUTPUT),
)
_CANCEL: Final = Command(
    "cancel",
    "Cancel message batches that run",
    "cancel",
    (_IDS, CONN_ID, YES, OUTPUT),
)
_REPORT: Final = Command(
    "report",
    "Write one page over the submissions of a results folder: outcomes, cost, tokens, time, failures",
    "write_report",
    (
        argument("results_path", nargs="?", help="a results folder; default: the one of this Airflow"),
        argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html"),
    ),
)
_ANSWERS: Final = Command(
    "answers",
    "Show what an answer store holds, and erase answers from it",
    description=DESCRIPTION,
    commands=[
        Command(
            name,
            help_[0].upper() + help_[1:],
            "answers",
            [Argument(flags, options) for flags, options in arguments],
            values={"answers_command": name},
        )
        for name, (help_, arguments) in ANSWERS_COMMANDS.items()
    ],
)
_ADOPT: Final = Command(
    "adopt",
    "Bring a message batch whose answers are paid for into the submission of a task",
    "adopt",
    (
        argument("batch_id", metavar="ID", help="the message batch"),
        argument(
            "--into", nargs=3, required=True, metavar=("DAG", "RUN", "TASK"), help="the task instance that gets it"
        ),
        MAP_INDEX,
        argument("--results-path", metavar="PATH", help="that of the task, if it has left no trace of it"),
        CONN_ID,
        argument("--yes", action="store_true", help="adopt it; without it, only show what would be done"),
        OUTPUT,
    ),
    "Compare the results of a message batch with the requests of a task, by their content, and write it into the "
    "ledger of the task. The next clear or retry of the task lands its answers and pays nothing for them again. "
    "Without --yes, nothing is changed.",
)
_PRICES: Final = Command("prices", "Show the prices in force, with dates and sources", "prices", (OUTPUT,))

COMMANDS: Final = (_LIST, _SHOW, _ROWS, _PRICE, _CANCEL, _ADOPT, _REPORT, _ANSWERS, _PRICES)
