"""Take requests as they were sent before, where this version of the package would send or refuse them otherwise.

Earlier versions sent the API's own items without the operator's ``system`` and ``request_params``. In other elements
they let the operator's ``system`` replace the one in ``params``, and ``request_params`` replace the argument and the
element's field. They refused less, too. What they have sent keeps its form, or a retry or a clear after an upgrade
would pay for it again, or fail before it has landed what is paid for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_claude_batch.batch.input.canonical_json import hash_content
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request, with_format
from airflow_claude_batch.batch.input.precedence import NAMED
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import encode_params
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import InvalidMessageError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EarlierInput:
    """What is known of the requests that earlier attempts wrote.

    :param read_contents: reads the hashes of their contents. Slow, so it is called only if something depends on it.
    :param has_earlier_forms: a version with the earlier rules may have written them.
    """

    read_contents: Callable[[], Set[bytes]] = frozenset
    has_earlier_forms: bool = False


@dataclass(slots=True)
class EarlierForms:
    """Finds requests that were sent before.

    :param defaults: what the earlier rules put into every request.
    :param earlier: what earlier attempts wrote.
    """

    defaults: Defaults
    earlier: EarlierInput
    _contents: Set[bytes] | None = field(default=None, init=False)
    _other_forms: int = field(default=0, init=False)
    _refused: int = field(default=0, init=False)

    def choose(self, request: Request, element: Any) -> Request:
        """Return the request, or its earlier form if it was sent in that one."""
        earlier = self._earlier_form(element, request.index)
        if earlier is None or earlier.params == request.params:
            return request
        if self.was_sent(request) or not self.was_sent(earlier):
            return request
        self._other_forms += 1
        return earlier

    def of_refused(self, element: Any, index: int, request: Request | None) -> Request | None:
        """Return the form in which a refused element was sent before. None if it was not.

        :param request: its form today, None if it has none.
        """
        for form in (request, self._earlier_form(element, index)):
            if form is not None and self.was_sent(form):
                self._refused += 1
                return form
        return None

    def was_sent(self, request: Request) -> bool:
        """Return True if an earlier attempt wrote a request of the same content."""
        if self._contents is None:
            self._contents = self.earlier.read_contents()
        try:
            return bool(self._contents) and hash_content(encode_params(request)) in self._contents
        except InvalidMessageError:
            return False

    def log_kept(self) -> None:
        """Say which requests stay as they were sent."""
        if self._other_forms:
            log.warning(
                "An earlier version of this package has sent %s with other parameters than this version would: its "
                "rules of precedence were others. What was sent stays as it is, and is not paid for again. To send it "
                "anew, and pay for it, clear the task with reuse_answers=False.",
                quantity(self._other_forms, "request"),
            )
        if self._refused:
            log.warning(
                "%s would be refused today, but an earlier attempt has sent %s. Its answers are kept.",
                quantity(self._refused, "request"),
                "it" if self._refused == 1 else "them",
            )

    def _earlier_form(self, element: Any, index: int) -> Request | None:
        if not self.earlier.has_earlier_forms or not isinstance(element, Mapping) or "role" in element:
            return None
        try:
            return read_earlier_form(element, index, self.defaults)
        except InvalidMessageError:
            return None


def contents_of(requests: RequestFile) -> frozenset[bytes]:
    """Return the hashes of the contents of all requests in a file."""
    return frozenset(hash_content(requests.params(i)) for i in range(len(requests)) if i not in requests.duplicates)


def read_earlier_form(element: Mapping[str, Any], index: int, defaults: Defaults) -> Request | None:
    """Read a mapping by the earlier rules. None if they give the form of today, or refuse it.

    :raises InvalidMessageError: the element cannot be read.
    """
    own = element.get("params")
    own = {} if own is None else own
    if not isinstance(own, Mapping):
        return None
    if "custom_id" in element:
        params = {"model": defaults.model, "max_tokens": defaults.max_tokens, **own}
        return with_format(Request(index, element["custom_id"], params), defaults)
    values = {name: element.get(name, getattr(defaults, name)) for name in NAMED}
    bare = {name: value for name, value in element.items() if name not in (*NAMED, "params")}
    plain = read_request(bare, index, Defaults(model=defaults.model, max_tokens=defaults.max_tokens))
    first = {"model": values["model"], "max_tokens": values["max_tokens"]}
    params = {**first, **defaults.params, **own, "messages": plain.params["messages"]}
    if values["system"] is not None:
        params["system"] = values["system"]
    return with_format(msgspec.structs.replace(plain, params=params), defaults)
