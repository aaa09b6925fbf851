"""Replace the stored kwargs of the triggers that a DAG's tasks wait for by those of other versions of the package.

The triggers get in turn the kwargs of the first version, and kwargs that only a future version could store.
"""

import sys

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

FIRST_VERSION = ("claude_conn_id", "batch_ids", "wait_for", "poll_interval", "until", "cancel_on_kill")
FUTURE_VERSION = {"regions": ["eu"], "priority": {"level": 3}}

with create_session() as session:
    waiting = session.query(TaskInstance.trigger_id).filter(TaskInstance.dag_id == sys.argv[1])
    triggers = session.query(Trigger).filter(Trigger.id.in_(waiting)).order_by(Trigger.id).all()
    assert {trigger.classpath for trigger in triggers} == {"airflow_claude_batch.triggers.MessageBatchTrigger"}
    assert len(triggers) > 1
    for number, trigger in enumerate(triggers):
        stored = trigger.kwargs
        trigger.kwargs = stored | FUTURE_VERSION if number % 2 else {name: stored[name] for name in FIRST_VERSION}
