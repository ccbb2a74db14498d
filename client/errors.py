"""What can go wrong between the SDK and a gateway.

ClientError
├── Refused           the gateway answered no: `status`, `code`, what it found, what to do
├── Unreachable       no gateway answers there
├── AnswerRejected    the gateway's answer is not what the protocol says, or does not verify
└── NotCommitted      a transaction ended otherwise: failed, expired, or not in time
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of the SDK's errors."""


class Refused(ClientError):
    """The gateway refused; nothing was changed by this request."""

    def __init__(self, status: int, code: str, message: str, what_to_do: str = "") -> None:
        super().__init__(f"{message} ({code}){'; ' + what_to_do if what_to_do else ''}")
        self.status = status
        self.code = code
        self.message = message
        self.what_to_do = what_to_do


class Unreachable(ClientError):
    """Nobody answers at the gateway's URL; the message says how to start a network."""

    def __init__(self, gateway_url: str, reason: str) -> None:
        super().__init__(
            f"{gateway_url}: no gateway answers ({reason}); start a local network with "
            "`chartchain network init` and `chartchain network up`, or check the URL and the CA file"
        )
        self.gateway_url = gateway_url


class AnswerRejected(ClientError):
    """The answer cannot be used: do not trust this gateway."""


class NotCommitted(ClientError):
    """A transaction did not end as committed; `end` and `code` say how it ended."""

    def __init__(self, transaction_id: str, end: str, code: str) -> None:
        advice = {
            "failed": "docs/contracts.md says what the code means; mend the call and sign a new transaction",
            "expired": "sign it anew with a later expires_ms",
        }.get(end, "send the identical bytes again, to any gateway: they count once")
        super().__init__(f"transaction {transaction_id}: {end}{' ' + code if code else ''}; {advice}")
        self.transaction_id = transaction_id
        self.end = end
        self.code = code
