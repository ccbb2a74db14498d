"""What a contract may and may not do through its context, and how calls reach it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import contracts
from contracts.calls.fields import Identifier
from contracts.catalog import CONTRACTS
from contracts.context import (
    BYTES_PER_CALL_MAX,
    EVENTS_PER_CALL_MAX,
    OPERATIONS_PER_CALL_MAX,
    Context,
)
from contracts.contract import ARGUMENTS_BYTES_MAX, RESULT_BYTES_MAX, Contract
from contracts.errors import BadArguments, BudgetExceeded, ContractError, NotPermitted, UnknownMethod
from contracts.tables import ROW_BYTES_MAX, Table
from crypto.encoding import decode, encode

if TYPE_CHECKING:
    from tests.contracts.conftest import Ledger

MakeContext = Callable[..., Context]


class NoteRow(msgspec.Struct, frozen=True, array_like=True):
    text: bytes


class Write(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    key: Identifier


notes: Final = Table("notebook", "notes", NoteRow)
others: Final = Table("elsewhere", "notes", NoteRow)


@pytest.fixture
def make_context(ledger: Ledger) -> MakeContext:
    """A context over the given rows of the notebook, in the middle of one of its calls."""

    def make(rows: dict[bytes, bytes] | None = None) -> Context:
        for key, text in (rows or {}).items():
            ledger.state.rows[notes.compute_state_key(key)] = notes.encode_row(NoteRow(text))
        context = Context(
            ledger.state,
            caller=bytes(32),
            chain_id=bytes(32),
            height=1,
            block_time_ms=1,
            transaction_id=bytes(32),
        )
        context.begin_call(frozenset({"notebook"}))
        return context

    return make


def test_call_reads_its_own_writes_and_the_parent_stays_as_it_was(
    make_context: MakeContext, ledger: Ledger
) -> None:
    context = make_context({b"a": b"parent"})
    before = dict(ledger.state.rows)
    context.put(notes, b"a", NoteRow(b"own"))
    assert context.get(notes, b"a") == NoteRow(b"own")
    context.delete(notes, b"a")
    assert context.get(notes, b"a") is None
    assert context.get(notes, b"b") is None
    assert ledger.state.rows == before


def test_table_of_another_contract_is_read_but_not_written(make_context: MakeContext) -> None:
    context = make_context()
    assert context.get(others, b"a") is None
    with pytest.raises(NotPermitted):
        context.put(others, b"a", NoteRow(b""))
    with pytest.raises(NotPermitted):
        context.delete(others, b"a")


keys = st.binary(min_size=2, max_size=2).map(lambda key: bytes(letter % 3 for letter in key))


@given(
    parent=st.dictionaries(keys, st.binary(max_size=3), max_size=6),
    own=st.dictionaries(keys, st.none() | st.binary(max_size=3), max_size=6),
    prefix=st.binary(max_size=1).map(lambda key: bytes(letter % 3 for letter in key)),
)
def test_scan_shows_parent_and_own_writes_as_one_table_in_key_order(
    make_ledger: Callable[[], Ledger],
    parent: dict[bytes, bytes],
    own: dict[bytes, bytes | None],
    prefix: bytes,
) -> None:
    state = make_ledger().state
    for key, text in parent.items():
        state.rows[notes.compute_state_key(key)] = notes.encode_row(NoteRow(text))
    context = Context(state, caller=b"", chain_id=b"", height=1, block_time_ms=1, transaction_id=bytes(32))
    context.begin_call(frozenset({"notebook"}))
    for key, written in own.items():
        if written is None:
            context.delete(notes, key)
        else:
            context.put(notes, key, NoteRow(written))
    expected = {
        key: text for key, text in (parent | own).items() if text is not None and key.startswith(prefix)
    }
    assert [(key, row.text) for key, row in context.scan(notes, prefix)] == sorted(expected.items())


def test_call_touches_no_more_rows_than_its_budget(make_context: MakeContext) -> None:
    context = make_context()
    for _ in range(OPERATIONS_PER_CALL_MAX):
        context.get(notes, b"a")
    with pytest.raises(BudgetExceeded):
        context.get(notes, b"a")
    context.begin_call(frozenset())
    context.get(notes, b"a")
    assert context.operations_spent == OPERATIONS_PER_CALL_MAX + 2


def test_each_row_of_a_scan_costs(make_context: MakeContext) -> None:
    context = make_context({bytes([number]): b"" for number in range(10)})
    for _ in range(OPERATIONS_PER_CALL_MAX - 9):
        context.get(notes, b"a")
    with pytest.raises(BudgetExceeded):
        list(context.scan(notes))


def test_call_moves_no_more_bytes_than_its_budget(make_context: MakeContext) -> None:
    context = make_context()
    row = NoteRow(bytes(ROW_BYTES_MAX - 100))
    for _ in range(BYTES_PER_CALL_MAX // ROW_BYTES_MAX):
        context.put(notes, b"a", row)
    with pytest.raises(BudgetExceeded):
        context.put(notes, b"a", row)


def test_row_has_a_bound(make_context: MakeContext) -> None:
    with pytest.raises(BadArguments, match="at most 65536 allowed"):
        make_context().put(notes, b"a", NoteRow(bytes(ROW_BYTES_MAX)))


def test_events_are_bounded_for_each_call(make_context: MakeContext) -> None:
    context = make_context()
    for _ in range(2):
        context.begin_call(frozenset())
        for _ in range(EVENTS_PER_CALL_MAX):
            context.emit("notebook", "written", (), 1)
        with pytest.raises(BudgetExceeded):
            context.emit("notebook", "written", (), 1)
    assert len(context.events) == 2 * EVENTS_PER_CALL_MAX


def make_notebook(result: object = None) -> Contract:
    notebook = Contract("notebook", version=1)

    @notebook.method(Write)
    def write(context: Context, arguments: Write) -> object:
        context.put(notes, arguments.key, NoteRow(b""))
        return result

    return notebook


def test_call_is_decoded_carried_out_and_its_result_encoded(make_context: MakeContext) -> None:
    context = make_context()
    arguments = encode(Write(bytes(16)))
    assert make_notebook().call(context, "write", arguments) == b""
    assert list(context.writes) == [notes.compute_state_key(bytes(16))]
    answer = make_notebook(("yes", 1)).call(context, "write", arguments)
    assert decode(answer, size_max=RESULT_BYTES_MAX) == ("yes", 1)


def test_result_has_a_bound(make_context: MakeContext) -> None:
    with pytest.raises(BudgetExceeded, match="result"):
        make_notebook(bytes(RESULT_BYTES_MAX)).call(make_context(), "write", encode(Write(bytes(16))))


@pytest.mark.parametrize(
    "arguments",
    [
        b"",
        b"\xc1",
        encode((bytes(15),)),
        encode((bytes(16), 1)),
        encode(()),
        encode(("text",)),
        b"\xdc\x00\x01" + encode(bytes(16)),
        bytes(ARGUMENTS_BYTES_MAX + 1),
    ],
    ids=["nothing", "no value", "short", "extra", "missing", "other type", "longer spelling", "too large"],
)
def test_arguments_of_another_form_are_refused(make_context: MakeContext, arguments: bytes) -> None:
    context = make_context()
    with pytest.raises(BadArguments):
        make_notebook().call(context, "write", arguments)
    assert context.writes == {}


def test_unknown_method_is_refused(make_context: MakeContext) -> None:
    with pytest.raises(UnknownMethod):
        make_notebook().call(make_context(), "erase_everything", b"")


@given(arguments=st.binary(max_size=80))
def test_no_bytes_make_a_contract_raise_anything_but_a_refusal(
    make_ledger: Callable[[], Ledger], arguments: bytes
) -> None:
    ledger = make_ledger()
    for contract in CONTRACTS.values():
        for method in contract.methods:
            context = Context(
                ledger.state,
                caller=ledger.hospital.public_key,
                chain_id=bytes(32),
                height=1,
                block_time_ms=1,
                transaction_id=bytes(32),
            )
            with pytest.raises(ContractError):
                contract.call(context, method, arguments)


def test_table_names_keep_prefixes_apart() -> None:
    """No table's prefix begins with another's, so a scan of one never shows rows of another."""
    prefixes = {table.prefix for table in _find_tables()}
    assert len(prefixes) > 15
    for prefix in prefixes:
        assert not any(other.startswith(prefix) for other in prefixes - {prefix})


def _find_tables() -> list[Table[msgspec.Struct]]:
    modules = {
        importlib.import_module(f"contracts.{found.name}")
        for found in pkgutil.iter_modules(contracts.__path__)
    }
    return [value for module in modules for value in vars(module).values() if isinstance(value, Table)]
