"""Nothing that parses what comes from outside goes without a fuzz target."""

from __future__ import annotations

from typing import Final

from tests.fuzz.inventory import find_decoders, find_parsers
from tests.fuzz.targets import TARGETS

ELSEWHERE: Final = {
    # Through the routes of a gateway: tests/gateway/test_hostile_requests.py.
    "gateway.transactions:Transactions._read_transactions": "route",
    # Through calls of every method: tests/fuzz/test_contract_calls.py.
    "contracts.contract:Contract.call": "contract calls",
    # Rows that the node itself wrote, under the database's checksums or sealed by the vault.
    "contracts.tables:Table.decode_row": "own rows",
    "contracts.tables:Table.get": "own rows",
    "contracts.tables:Table.scan": "own rows",
    "ledger.layout:decode_position": "own rows",
    "ledger.snapshot_export:_read_records": "spill files that one export writes and reads",
    "vault.sealed_table:SealedTable._open": "own rows; altered ones in tests/vault/test_sealed_table.py",
    "gateway.accounts:Accounts.get_evidence": "own rows",
    "gateway.visibility:decode_fields": "events that the executor encoded",
    "gateway.reading:Reading._authorize": "results that the executor encoded",
    "gateway.serving:Serving._check": "arguments that a contract has decoded",
    "network.certificates:_load_authority": "an authority's own key pair",
}
"""What has no target of its own, and why it needs none."""


def test_every_decoder_is_fuzzed() -> None:
    covered = {place for target in TARGETS for place in target.places}
    missing = (find_parsers() | find_decoders()) - covered - ELSEWHERE.keys()
    assert not missing, f"add a target in tests/fuzz for: {', '.join(sorted(missing))}"


def test_the_exceptions_still_exist() -> None:
    gone = ELSEWHERE.keys() - find_parsers() - find_decoders()
    assert not gone, f"no longer there, or no longer decoding: {', '.join(sorted(gone))}"


def test_targets_have_names_of_their_own() -> None:
    names = [target.name for target in TARGETS]
    assert len(set(names)) == len(names)
