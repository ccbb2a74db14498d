"""An operation: one method on one path, with everything that its description in OpenAPI needs.

Routes, their doors and their documentation are made from the same values, so none can lag behind another.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from client.models import Role
from gateway.errors import Handler

JSON_ONLY = ("application/json",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    method: str
    path: str
    handler: Handler
    summary: str
    roles: tuple[Role, ...] = ()
    """Who may call it, as `gateway.authentication` sees to; empty for everybody, without a token."""
    request: type[BaseModel] | None = None
    request_types: tuple[str, ...] = JSON_ONLY
    answer: type[BaseModel] | None = None
    answer_type: str = "application/json"
    status: int = 200
    query: tuple[tuple[str, str], ...] = ()
    """Query parameters: name and what it means."""
    takes_min_height: bool = False
    """Reads the ledger's head, and waits for a head as high as the query parameter `min_height`."""

    @property
    def takes_body(self) -> bool:
        """A model, or raw bytes of its own types."""
        return self.request is not None or self.request_types != JSON_ONLY


STAFF: tuple[Role, ...] = ("clinician", "clerk", "officer", "auditor", "operator")
EVERYBODY: tuple[Role, ...] = (*STAFF, "patient", "representative")
