"""Give the triggers of this Airflow's database the arguments that other versions of the package store.

One gets those that the first version knew, the next one some that no version knows yet, and so on in turn.
"""

from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

AT_FIRST = ("claude_conn_id", "batch_ids", "wait_for", "poll_interval", "until", "cancel_on_kill")
NOT_YET = {"regions": ["eu"], "priority": {"level": 3}}

with create_session() as session:
    triggers = session.query(Trigger).order_by(Trigger.id).all()
    assert len(triggers) > 1
    for number, trigger in enumerate(triggers):
        stored = trigger.kwargs
        trigger.kwargs = stored | NOT_YET if number % 2 else {name: stored[name] for name in AT_FIRST}
