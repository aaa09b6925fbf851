"""Replace the stored kwargs of all triggers that tasks wait for by those of other versions of the package.

The triggers get in turn the kwargs of the first version, and kwargs that only a future version could store.
"""

from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

FIRST_VERSION = ("claude_conn_id", "batch_ids", "wait_for", "poll_interval", "until", "cancel_on_kill")
FUTURE_VERSION = {"regions": ["eu"], "priority": {"level": 3}}

with create_session() as session:
    waiting = Trigger.classpath == "airflow_claude_batch.triggers.MessageBatchTrigger"
    triggers = session.query(Trigger).filter(waiting).order_by(Trigger.id).all()
    assert len(triggers) > 1
    for number, trigger in enumerate(triggers):
        stored = trigger.kwargs
        trigger.kwargs = stored | FUTURE_VERSION if number % 2 else {name: stored[name] for name in FIRST_VERSION}
