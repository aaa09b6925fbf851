"""Types of what goes in: ``messages`` and its elements, for mypy and for an IDE::

from airflow_claude_batch.elements import Element, PromptElement
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import Any, Literal, Required, TypeAlias, TypedDict

__all__ = ["ApiElement", "Content", "ConversationElement", "Element", "Message", "Messages", "PromptElement"]

#: A text, or content blocks of the API: texts, images, documents.
Content: TypeAlias = str | Sequence[Mapping[str, Any]]


class Message(TypedDict):
    """A message of a conversation, and an element by itself."""

    role: Literal["user", "assistant", "system"]
    content: Content


class _Keyed(TypedDict, total=False):
    """What a mapping with a key may override for its request."""

    #: Any JSON value, unique in the list. It comes back with the answer. Default: the position in the list, from 0.
    key: Any
    model: str
    max_tokens: int
    system: Content
    #: Any other parameter of the Messages API.
    params: Mapping[str, Any]


class PromptElement(_Keyed, total=False):
    """A prompt with a key and settings of its own.

    A function of ``@task.claude_batch`` yields them::

        @task.claude_batch(model="claude-haiku-5-5")
        def ask(topics: list[str]) -> Iterator[PromptElement]:
            for topic in topics:
                yield {"key": topic, "prompt": f"What is {topic}?"}
    """

    prompt: Required[Content]


class ConversationElement(_Keyed, total=False):
    """A conversation with a key and settings of its own."""

    messages: Required[Sequence[Message]]


class ApiElement(TypedDict):
    """A request as the API itself takes it."""

    custom_id: str
    params: Mapping[str, Any]


#: One request: one element of ``messages``.
Element: TypeAlias = str | Message | Sequence[Message] | PromptElement | ConversationElement | ApiElement
#: What ``messages`` may be, beside the output of another task: elements, or the path of a file. A set is none of these,
#: because its order changes.
Messages: TypeAlias = Sequence[Element] | Iterator[Element] | ValuesView[Element] | str | os.PathLike[str]
