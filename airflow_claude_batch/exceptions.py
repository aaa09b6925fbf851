"""Errors of this package, sorted by the question "can this have cost money?".

ClaudeBatchError
├── InputError (ValueError)          the input was refused before sending: nothing was sent
│   ├── EmptyInputError                ``messages`` has no element
│   ├── InvalidMessageError            one element of ``messages`` cannot be sent
│   ├── OutputSchemaError              ``output_schema`` is not a schema that the API accepts
│   └── CostLimitError                 the estimated cost is above ``max_cost``
├── ConfigurationError (ValueError)  the connection or a setting is wrong: nothing was sent now
├── DailyCostLimitError              a limit of the day has no room now, a retry may fit: nothing was sent
├── SourceError                      ``rows`` could not be read now, a retry may: nothing was sent
├── ApprovalRejectedError            a person rejected the cost, or nobody answered in time: nothing more was sent
├── APIError                         a call to the API failed; see ``may_have_been_accepted``
│   ├── APIConnectionError             no response: DNS failure, refused connection, reset, timeout
│   ├── MalformedResponseError         a response that is not the API's: a proxy's HTML page, broken JSON
│   └── APIStatusError                 a response with an error status
│       BadRequestError · AuthenticationError · BillingError · PermissionDeniedError · NotFoundError ·
│       RequestTooLargeError · RateLimitError · OverloadedError · ServerError
├── SubmissionError                  nothing may be sent until the state of earlier batches is known
│   ├── SubmissionUnknownError         a create call's response was lost, and a search did not find the batch
│   ├── SubmissionTakenOverError       another attempt of the same task owns the submission now
│   ├── SubmissionRecordError          the submission's files or ledger cannot be read or written
│   └── AdoptionError                  a message batch cannot be brought into the submission: nothing was changed
└── BatchError                       batches were accepted and are billed, but did not end as asked
    ├── BatchTimeoutError              the batches did not end in time
    ├── BatchIncompleteError           more requests failed than ``allow_failed`` permits
    └── ResultsError                   the answers exist but could not all be saved
        └── TableError                   a table of a database cannot take the rows
"""

from __future__ import annotations

import re
from typing import Final

#: A line may end with a text that has a full stop of its own.
_TWO_FULL_STOPS: Final = re.compile(r"(?<=[\w)\]'\"])\.\.(?=\s|$)")
#: The second line of an error about the input: what it means for money.
NOTHING_SENT: Final = "Nothing was sent."


class ClaudeBatchError(Exception):
    """Base class of every error that this package raises.

    :param lines: the lines of the message. The first says what happened and where, in at most 120 characters. The
        next say what it means for money, and what to do.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(_TWO_FULL_STOPS.sub(".", line) for line in lines))

    @property
    def summary(self) -> str:
        """The first line of the message: what happened and where. For log lines and tables."""
        return str(self).partition("\n")[0]


class InputError(ClaudeBatchError, ValueError):
    """The input cannot be sent as it is.

    Nothing was sent and nothing is billed. A retry with the same input fails the same way.
    """


class InvalidMessageError(InputError):
    """One element of ``messages`` cannot be sent. The message names the element.

    Nothing was sent and nothing is billed. A retry with the same element fails the same way. ``rule`` names the rule of
    the API that it breaks (docs/preflight.md). It is None if the element has none of the accepted shapes.
    """

    rule: str | None = None


class EmptyInputError(InputError):
    """``messages`` has no element, and ``on_empty`` is ``fail``.

    Nothing was sent and nothing is billed. A retry with the same input fails the same way.
    """


class OutputSchemaError(InputError):
    """The API does not accept ``output_schema``. The message names the place in the schema and the remedy.

    Nothing was sent and nothing is billed. A retry with the same schema fails the same way.
    """


class CostLimitError(InputError):
    """The estimated cost of the submission is above ``max_cost`` or the deployment's limit.

    Nothing was sent and nothing is billed. A retry fails the same way until the limit or the input changes.
    """


class ConfigurationError(ClaudeBatchError, ValueError):
    """The connection or a setting of the deployment is missing or wrong.

    Nothing was sent now. Batches that were sent before are not affected. A retry reads the connection and the settings
    again.
    """


class DailyCostLimitError(ClaudeBatchError):
    """A limit on the cost of a day has no room for the submission now, or what was spent today cannot be read.

    Nothing was sent now. A retry checks again: the limit frees up at 00:00 UTC, or when open submissions end.
    """


class SourceError(ClaudeBatchError):
    """The source of ``rows`` did not give all of them: its database or storage was not reached, or was lost meanwhile.

    Nothing was sent and nothing is billed. A retry reads all rows again.
    """


class ApprovalRejectedError(ClaudeBatchError):
    """The cost had to be approved (``approve_above``), and was rejected, or nobody answered in time.

    Nothing was sent but a sample, if there is one: its answers are billed and kept. A retry fails the same way without
    asking. A clear of the task asks again.
    """


class APIError(ClaudeBatchError):
    """A call to the API failed.

    Only a create call can cost money; ``may_have_been_accepted`` tells. A retry first looks for the batch.

    :param may_have_been_accepted: true if the call may have taken effect although it failed. For a create call
        this means that a batch may exist and may be billed.
    """

    def __init__(self, *lines: str, may_have_been_accepted: bool = False) -> None:
        super().__init__(*lines)
        self.may_have_been_accepted = may_have_been_accepted


class APIConnectionError(APIError):
    """No response arrived, or only part of one: DNS failure, refused connection, reset or timeout.

    A create call may have been accepted if any of it was sent. A retry first looks for the batch.
    """


class MalformedResponseError(APIError):
    """The response is not the API's: a proxy's page, a redirect or broken JSON.

    A create call with such a response may have been accepted. A retry first looks for the batch.
    """


class APIStatusError(APIError):
    """The API, or a proxy on the way, responded with an error status.

    ``may_have_been_accepted`` tells whether a create call can have cost money. A retry first looks for the batch.

    :param status_code: the HTTP status.
    :param error_type: ``error.type`` of the body, such as ``rate_limit_error``. None unless the body certainly is the
        API's error with this status. Then something other than the API may have responded, and nothing is proven.
    :param error_code: ``error.details.error_code``, the only stable code. Usually None.
    :param request_id: the id to give to Anthropic's support. None if something other than the API responded.
    :param retry_after: the seconds that the response asks to wait. None if it does not ask.
    """

    def __init__(
        self,
        *lines: str,
        status_code: int,
        error_type: str | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        may_have_been_accepted: bool = False,
    ) -> None:
        super().__init__(*lines, may_have_been_accepted=may_have_been_accepted)
        self.status_code = status_code
        self.error_type = error_type
        self.error_code = error_code
        self.request_id = request_id
        self.retry_after = retry_after


class BadRequestError(APIStatusError):
    """400, 409 or another 4xx: the request itself was refused.

    Nothing was accepted, unless ``may_have_been_accepted``. A retry of the same request fails the same way.
    """


class AuthenticationError(APIStatusError):
    """401: the credential is missing, wrong or expired.

    Nothing was accepted, if the API itself says so. A retry succeeds once the credential in the connection is valid.
    """


class BillingError(APIStatusError):
    """402, or a spend limit: credit is missing or a limit is reached.

    Nothing was accepted, if the API itself says so. A retry fails until somebody adds credit, raises the limit or
    the next month begins.
    """


class PermissionDeniedError(APIStatusError):
    """403: the credential is valid but lacks the permission for this call.

    Nothing was accepted, if the API itself says so. A retry succeeds once the credential has the permission.
    """


class NotFoundError(APIStatusError):
    """404: the credential's workspace has no such object, or the host has no such path.

    Nothing was accepted, if the API itself says so. One 404 does not prove that a batch is gone, so a retry asks again.
    """


class RequestTooLargeError(APIStatusError):
    """413: the body is larger than the API or a proxy permits.

    Nothing was accepted, if the API itself says so. A retry fails the same way unless fewer requests are sent at once.
    """


class RateLimitError(APIStatusError):
    """429: too many calls, or too many requests in the processing queue.

    Nothing was accepted, if the API itself says so. A retry succeeds once the limit has room again, see
    ``retry_after``.
    """


class OverloadedError(APIStatusError):
    """529: the whole service is overloaded.

    Nothing was accepted, if the API itself says so. A retry succeeds once the overload has passed.
    """


class ServerError(APIStatusError):
    """408, 499 or a 5xx other than 529: a server or a proxy failed.

    A create call may have been accepted nevertheless. A retry first looks for the batch.
    """


class SubmissionError(ClaudeBatchError):
    """Nothing may be sent now, because batches of this submission may exist that are not accounted for.

    Earlier batches may run and be billed. A retry looks again before it sends anything.
    """


class SubmissionUnknownError(SubmissionError):
    """A create call's response was lost, and a search could not tell whether its batch exists.

    That batch may run and be billed. A retry searches again and sends nothing before the search gives a result.
    """


class SubmissionTakenOverError(SubmissionError):
    """Another attempt of the same task instance owns the submission now.

    Its batches run on and are billed once. This attempt sends nothing more, the other one continues.
    """


class SubmissionRecordError(SubmissionError):
    """The submission's ledger or one of its files cannot be read or written. It is never treated as empty.

    Batches that it names may run and be billed. A retry reads it again and sends nothing before it can be read.
    """


class AdoptionError(SubmissionError):
    """A message batch cannot be brought into a task's submission.

    Nothing was changed, sent or billed. The message says what to do with the batch instead.
    """


class BatchError(ClaudeBatchError):
    """The batches were accepted but did not end as asked.

    What they answered is billed. A retry continues with them and sends only what has no final answer.
    """


class BatchTimeoutError(BatchError):
    """The batches did not end within the timeout.

    What they answered is billed, and is kept. A retry continues with what is still open.
    """


class BatchIncompleteError(BatchError):
    """More requests failed than ``allow_failed`` permits.

    What was answered is billed, and is kept. A retry sends only the requests that another try may help.
    """


class ResultsError(BatchError):
    """The answers exist but could not all be downloaded, saved or read.

    They are billed already and stay at the API for 29 days. A retry downloads them at no cost.
    """


class TableError(ResultsError):
    """A table of a database cannot take the rows as they are.

    The answers are billed already and stay in the results file. A retry fails the same way until the table or the
    arguments change.
    """
