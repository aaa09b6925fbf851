"""Take the text out of an answer's content blocks.

With server tools an answer has several text sections, between the calls of the tools and their results. Under an output
schema each section begins anew and may be JSON of its own (structured-outputs page, 2026-10; the vendor's SDK parses
block by block, lib/_parse). Within a section citations cut the text into several blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from airflow_claude_batch.api.wire import ContentBlock


def join_texts(content: Sequence[ContentBlock]) -> str | None:
    """Join the text blocks of an answer. None if it has none."""
    if len(content) == 1:  # as nearly every answer has
        return content[0].text if content[0].type == "text" else None
    texts = [block.text for block in content if block.type == "text" and block.text is not None]
    return "".join(texts) if texts else None


def texts_to_validate(content: Sequence[ContentBlock]) -> list[str]:
    """Return the texts that may be the answer's value: the whole text, the last section, the last block."""
    sections = (list(blocks) for type_, blocks in groupby(content, lambda block: block.type) if type_ == "text")
    last = next((blocks for blocks in reversed([*sections]) if (join_texts(blocks) or "").strip()), [])
    blocks = (block.text for block in reversed(last) if block.text and block.text.strip())
    texts = (join_texts(content), join_texts(last), next(blocks, None))
    return list(dict.fromkeys(text for text in texts if text is not None))
