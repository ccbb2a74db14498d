"""Why a call was not carried out.

    ContractError            the caller's fault: a failed receipt with `code`, nothing is written
    ├── NotPermitted         the caller may not do this
    ├── NotFound             what the call names is not on the ledger
    ├── Conflict             what the call would write contradicts what is there
    └── BadArguments         the arguments do not have the method's types or bounds
    BudgetExceeded           the call touched more rows or bytes than one call may
    UnknownMethod            no such contract or method on this ledger

Codes are part of the ledger's results and agreed by all replicas; texts are not, so a receipt carries the
code alone. The text reaches the caller's gateway log by digest and id only.
"""

from __future__ import annotations


class CallFailed(Exception):
    """A call that ends in a failed receipt with `code`."""

    code = "call_failed"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ContractError(CallFailed):
    """The caller's fault."""

    code = "refused"


class NotPermitted(ContractError):
    code = "not_permitted"


class NotFound(ContractError):
    code = "not_found"


class Conflict(ContractError):
    code = "conflict"


class BadArguments(ContractError):
    code = "bad_arguments"


class BudgetExceeded(CallFailed):
    code = "budget_exceeded"


class UnknownMethod(CallFailed):
    code = "unknown_method"
