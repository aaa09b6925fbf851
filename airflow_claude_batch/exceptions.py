"""Everything that can go wrong, sorted by money.

ClaudeBatchError
├── InputError (ValueError)          before any request: nothing sent, nothing billed
│   ├── InvalidMessageError            one element of ``messages``; names it
│   ├── BatchLimitError                the API's limits, known before sending
│   ├── OutputSchemaError              ``output_schema`` is not what the API takes; names the place
│   └── CostLimitError                 the estimate is above ``max_cost``
├── ConfigurationError (ValueError)  the connection or the deployment's settings; nothing sent
├── APIError                         the API, or the road to it; ``may_have_been_accepted`` is the money question
│   ├── APIConnectionError             no answer: DNS, refused, reset, timeout
│   ├── MalformedResponseError         an answer that is not the API's: a proxy's HTML, broken JSON
│   └── APIStatusError                 an answer that says no
│       BadRequestError · AuthenticationError · BillingError · PermissionDeniedError · NotFoundError ·
│       RequestTooLargeError · RateLimitError · OverloadedError · ServerError
├── SubmissionError                  we must not submit, or cannot tell whether we did
│   ├── SubmissionUnknownError         a create's answer was lost and the search could not settle it
│   ├── SubmissionTakenOverError       another attempt of the same task owns the submission now
│   └── SubmissionRecordError          the ledger exists but cannot be read or written; never taken for "none"
└── BatchError                       accepted and billed, but not the ending asked for
    ├── BatchTimeoutError
    ├── BatchCanceledError
    ├── BatchIncompleteError           more rows without an answer than ``allow_failed``
    └── ResultsError                   answers exist but could not be landed whole
"""

from __future__ import annotations


class ClaudeBatchError(Exception):
    """Base of every error of this package.

    :param lines: the message, one line each: what happened and where (at most 120 characters), what it means for
        money, what to do.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))


class InputError(ClaudeBatchError, ValueError):
    """The input cannot be sent. Nothing was sent and nothing is billed; a retry will say the same."""


class InvalidMessageError(InputError):
    """One element of ``messages`` cannot be sent."""


class BatchLimitError(InputError):
    """The input is beyond what the API takes."""


class OutputSchemaError(InputError):
    """The output schema cannot be sent as it is meant. Names the place in it and the remedy."""


class CostLimitError(InputError):
    """The estimated price is above the limit set for it."""


class ConfigurationError(ClaudeBatchError, ValueError):
    """The connection or a setting is wrong. Nothing was sent."""


class APIError(ClaudeBatchError):
    """The API, or the road to it, failed.

    :param may_have_been_accepted: whether the request may have taken effect although it failed. For a
        create this is the money question: if true, look before sending again.
    """

    def __init__(self, *lines: str, may_have_been_accepted: bool = False) -> None:
        super().__init__(*lines)
        self.may_have_been_accepted = may_have_been_accepted


class APIConnectionError(APIError):
    """No answer arrived: name resolution, refusal, reset or timeout."""


class MalformedResponseError(APIError):
    """The answer is not the API's: a proxy's page, a redirect, or broken JSON."""


class APIStatusError(APIError):
    """The API answered with an error.

    :param status_code: the HTTP status.
    :param error_type: ``error.type`` of the body, such as ``rate_limit_error``; None if the body had none.
    :param error_code: ``error.details.error_code``, the only stable code; usually None.
    :param request_id: what the vendor's support asks for; None when an edge or a proxy answered.
    :param retry_after: seconds the answer asked to wait, None if it did not say.
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
    """400 and other refusals of the request itself, a 409 among them."""


class AuthenticationError(APIStatusError):
    """401: the credential is missing, wrong or expired."""


class BillingError(APIStatusError):
    """402, or a limit on spending: nothing was accepted, and waiting does not help."""


class PermissionDeniedError(APIStatusError):
    """403: the credential may not do this."""


class NotFoundError(APIStatusError):
    """404: no such object in the workspace of this credential."""


class RequestTooLargeError(APIStatusError):
    """413: the body is above the API's or a proxy's limit."""


class RateLimitError(APIStatusError):
    """429: too many calls, or too many requests in the processing queue."""


class OverloadedError(APIStatusError):
    """529: the whole service is overloaded; nothing was accepted."""


class ServerError(APIStatusError):
    """408, 499 and 5xx but 529: the request may have been accepted nevertheless."""


class SubmissionError(ClaudeBatchError):
    """We must not submit, or cannot tell whether we did."""


class SubmissionUnknownError(SubmissionError):
    """A create's answer was lost and looking for its batch could not settle what became of it."""


class SubmissionTakenOverError(SubmissionError):
    """Another attempt of the same task instance has taken the submission over."""


class SubmissionRecordError(SubmissionError):
    """The submission's record cannot be read or written. It is never taken for an empty one."""


class BatchError(ClaudeBatchError):
    """The batch was accepted, and may have been billed, but did not end as asked."""


class BatchTimeoutError(BatchError):
    """The batch did not end in time."""


class BatchCanceledError(BatchError):
    """The batch was canceled."""


class BatchIncompleteError(BatchError):
    """More requests ended without an answer than ``allow_failed`` permits. What was answered is landed."""


class ResultsError(BatchError):
    """The answers exist at the API but could not be landed whole."""
