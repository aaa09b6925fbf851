"""The command ``python -m airflow_claude_batch.answers``: what answer stores hold, and how to erase from them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.answers_arguments import ANSWERS_COMMANDS, DESCRIPTION
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.results_folder import folder_at
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.reuse.answer_store import AnswerStore
from airflow_claude_batch.batch.reuse.contents import is_stored_file
from airflow_claude_batch.exceptions import ConfigurationError


def run() -> int:
    """Run the command as a process of its own."""
    # Airflow looks connections up in its database only in a process that says that it may.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Airflow's own handler writes to stdout, where the outcome may be JSON.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    return main()


class UsageError(Exception):
    """The arguments do not say enough."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, print the outcome, and return the exit status: 1 if the store cannot be read or written."""
    parser = _parser()
    try:
        return run_answers(parser.parse_args(arguments))
    except UsageError as error:
        parser.error(str(error))
    except (ConfigurationError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def run_answers(options: argparse.Namespace) -> int:
    """Run the command that was parsed, print the outcome, and return the exit status.

    :param options: those of ``answers_arguments``, and the name of the ``answers_command``.
    :raises UsageError: something more must be said.
    :raises ConfigurationError: no installed provider serves the path, or the store cannot be read.
    :raises OSError: the store cannot be read or written.
    """
    path, command = options.path or settings.answer_store(), options.answers_command
    if not path:
        raise UsageError("there is no answer store: give its --path, or set answer_store in [claude_batch] of Airflow.")
    if command == "forget" and not (options.key or options.submission):
        raise UsageError("forget needs a --key or a --submission.")
    outcome = {name: _COMMANDS[command](store, options) for name, store in _stores(path)}
    if options.output == "json":
        print(msgspec.json.encode({"path": path, "command": command, "workspaces": outcome}).decode())
    elif not outcome:
        print(f"There are no stored answers below {path}.")
    else:
        for name, values in outcome.items():
            print(f"{name}: {_SENTENCES[command](values)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_claude_batch.answers", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="answers_command", required=True, metavar="COMMAND")
    for name, (help_, arguments) in ANSWERS_COMMANDS.items():
        command = commands.add_parser(name, help=help_)
        for flags, options in arguments:
            command.add_argument(*flags, **options)
    return parser


def _stores(path: str) -> Iterator[tuple[str, AnswerStore]]:
    """Yield the name and the store of each workspace below a path. The path may also be one workspace's folder.

    :raises OSError: the folder cannot be listed.
    :raises ConfigurationError: no installed provider serves the path.
    """
    root = path.rstrip("/") or "/"
    for name in (".", *folder_at(root).folders()):
        folder = folder_at(root if name == "." else f"{root}/{name}")
        if any(map(is_stored_file, folder.names())):
            yield name, AnswerStore(folder, clock=timezone.utcnow)


def _stats(store: AnswerStore, _: argparse.Namespace) -> dict[str, Any]:
    return dict(msgspec.to_builtins(store.stats()))


def _prune(store: AnswerStore, options: argparse.Namespace) -> dict[str, Any]:
    return _erased(store.prune(options.older_than, dry_run=not options.yes), options)


def _forget(store: AnswerStore, options: argparse.Namespace) -> dict[str, Any]:
    keys = [form for key in options.key for form in _forms(key)]
    return _erased(store.forget(keys, options.submission, dry_run=not options.yes), options)


def _compact(store: AnswerStore, _: argparse.Namespace) -> dict[str, Any]:
    before = store.stats()
    store.compact()
    after = store.stats()
    return {
        name: {"before": getattr(before, name), "after": getattr(after, name)}
        for name in ("answers", "segments", "bytes")
    }


def _forms(key: str) -> Iterator[bytes]:
    """Yield a key as a text, and as the other JSON that it may be: ``17`` names the rows of "17" and of 17."""
    yield msgspec.json.encode(key)
    try:
        msgspec.json.decode(key)
    except (msgspec.MsgspecError, ValueError):
        return
    yield key.encode()


def _erased(count: int, options: argparse.Namespace) -> dict[str, Any]:
    return {"answers": count, "erased": bool(options.yes)}


def _stats_sentence(values: Mapping[str, Any]) -> str:
    if not values["answers"]:
        return "no answers."
    text = (
        f"{quantity(values['answers'], 'answer')} in {quantity(values['segments'], 'file')}, "
        f"{values['bytes'] / 2**20:,.1f} MB, of {quantity(values['submissions'], 'submission')}, "
        f"answered from {values['oldest'][:10]} to {values['newest'][:10]} by {', '.join(values['models'])}."
    )
    if values["damaged"]:
        text += f" {quantity(len(values['damaged']), 'damaged file')}: {', '.join(values['damaged'])}."
    return text


def _erased_sentence(values: Mapping[str, Any]) -> str:
    count = quantity(values["answers"], "answer")
    return f"erased {count}." if values["erased"] else f"would erase {count}. Nothing was erased: add --yes."


def _compact_sentence(values: Mapping[str, Any]) -> str:
    before, after = ({name: value[when] for name, value in values.items()} for when in ("before", "after"))
    return (
        f"{quantity(after['answers'], 'answer')} in {quantity(after['segments'], 'file')}, "
        f"{after['bytes'] / 2**20:,.1f} MB; before, {before['answers']:,} in {quantity(before['segments'], 'file')}, "
        f"{before['bytes'] / 2**20:,.1f} MB."
    )


_COMMANDS: Final[Mapping[str, Callable[[AnswerStore, argparse.Namespace], dict[str, Any]]]] = {
    "stats": _stats,
    "prune": _prune,
    "forget": _forget,
    "compact": _compact,
}
_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "stats": _stats_sentence,
    "prune": _erased_sentence,
    "forget": _erased_sentence,
    "compact": _compact_sentence,
}
