"""Keep the record of fired events in an Airflow Variable, from a trigger.

``Variable.get`` and ``Variable.set`` of Airflow are not used. From Airflow 3.1 on, the first says "not found" whatever
went wrong, and the second only logs what did.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_claude_batch._airflow.compat import get_variable, put_variable
from airflow_claude_batch._airflow.supervisor import supervisor_call
from airflow_claude_batch.batch.events.record import EventRecord, decode, encode

KEY_PREFIX: Final = "claude_batch_ended_events__"
DESCRIPTION: Final = (
    "The message batches that had their event (airflow_claude_batch.events.MessageBatchEndedTrigger). "
    "To begin anew: pause the DAGs that watch, delete it, and unpause them."
)
#: The longest part of a key that is taken from a connection's id. A Variable's key has 250 characters at most.
_NAME_CHARACTERS: Final = 150


def variable_key(conn_id: str, options: Mapping[str, Any]) -> str:
    """Return the Variable's key of the trigger of a connection.

    :param options: those arguments of the trigger that are not the default. Other arguments, another record.
    """
    name = re.sub(r"[^\w.-]", "_", conn_id, flags=re.ASCII)[:_NAME_CHARACTERS]
    if name == conn_id and not options:
        return KEY_PREFIX + name
    identity = json.dumps([conn_id, dict(options)], sort_keys=True)
    return f"{KEY_PREFIX}{name}__{hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()}"


class VariableRecordStore:
    """The record of one trigger.

    :param key: the Variable's key.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    async def load(self) -> EventRecord | None:
        """Return the record, None only if Airflow has no such Variable.

        :raises SubmissionRecordError: somebody has damaged it.
        """
        text = await supervisor_call(get_variable, self._key)
        return None if text is None else decode(text)

    async def save(self, record: EventRecord) -> None:
        """Replace the record."""
        await supervisor_call(put_variable, self._key, encode(record), DESCRIPTION)
