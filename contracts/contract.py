"""A contract: a name, a version, methods with typed arguments, and the tables it may write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from contracts.context import Context
from contracts.errors import BadArguments, BudgetExceeded, UnknownMethod
from crypto.encoding import EncodingError, decode_as, encode

ARGUMENTS_BYTES_MAX: Final = 16_384
"""The encoded arguments of one call."""

RESULT_BYTES_MAX: Final = 4_096

ArgumentsT = TypeVar("ArgumentsT", bound=msgspec.Struct)
Handler = Callable[[Context, ArgumentsT], object]


class Contract:
    """Methods by name. `writes` names further contracts whose tables this one's methods may write."""

    def __init__(self, name: str, *, version: int, writes: tuple[str, ...] = ()) -> None:
        self.name = name
        self.version = version
        self.writable = frozenset((name, *writes))
        self.methods: dict[str, tuple[type[Any], Handler[Any]]] = {}
        self.alone_methods: frozenset[str] = frozenset()
        """Methods whose call must be the only one of its transaction: what they write must stay written,
        so no later call may fail and take it along."""

    def method(
        self, arguments: type[ArgumentsT], *, alone: bool = False
    ) -> Callable[[Handler[ArgumentsT]], Handler[ArgumentsT]]:
        """Register the decorated function under its own name, called with decoded `arguments`."""

        def register(handler: Handler[ArgumentsT]) -> Handler[ArgumentsT]:
            self.methods[handler.__name__] = (arguments, handler)
            if alone:
                self.alone_methods |= {handler.__name__}
            return handler

        return register

    def call(self, context: Context, method: str, arguments: bytes) -> bytes:
        """Run one call; the canonical encoding of its result, empty for None.

        Raises CallFailed when the call is refused; its writes are then to be dropped.
        """
        found = self.methods.get(method)
        if found is None:
            raise UnknownMethod(f"{self.name} has no method {method[:40]!r}")
        kind, handler = found
        try:
            decoded = decode_as(kind, arguments, size_max=ARGUMENTS_BYTES_MAX)
        except EncodingError as error:
            raise BadArguments(f"{self.name}.{method}: {error}") from error
        context.begin_call(self.writable)
        result = handler(context, decoded)
        encoded = b"" if result is None else encode(result)
        if len(encoded) > RESULT_BYTES_MAX:
            raise BudgetExceeded(f"result of {len(encoded)} bytes found, at most {RESULT_BYTES_MAX} allowed")
        return encoded
