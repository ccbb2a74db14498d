"""Bugs in what a block may hold, what it gives on every node, and how it is believed."""

from __future__ import annotations

from tests.mutants.checks import NamedTest
from tests.mutants.mutant import Edit, Mutant

BLOCK_TESTS = "ledger/test_block_rules.py::"
EXECUTOR_TESTS = "ledger/test_executor.py::"
MEMPOOL_TESTS = "ledger/test_mempool.py::"
READ_TESTS = "ledger/test_reads.py::"
APPLICATION_TESTS = "network/test_ledger_application.py::"

MUTANTS = (
    Mutant(
        name="missing_bodies_executed_as_none",
        rule="V6",
        history="fabric 0.6 #1984: a batch was executed without what was missing of it.",
        edits=(
            Edit(
                "network.ledger_application:LedgerApplication._gather",
                "len(transactions) != len(signed_hashes)",
                "False",
            ),
            Edit("ledger.block_rules:verify_before_execution", "in expectations:", "in expectations[:6]:"),
        ),
        caught_by=NamedTest(
            APPLICATION_TESTS + "test_rule_V6_a_proposal_whose_bodies_are_withheld_is_not_ok_and_not_diverged"
        ),
    ),
    Mutant(
        name="header_fields_not_checked",
        rule="E1",
        history="FISCO-BCOS #2307: a leader could fake a proposal's header, and the others agreed on it.",
        edits=(
            Edit("ledger.block_rules:verify_before_execution", "in expectations:", "in expectations[5:]:"),
        ),
        caught_by=NamedTest(BLOCK_TESTS + "test_E1_a_corrupted_header_field_is_refused_by_name"),
    ),
    Mutant(
        name="transactions_of_a_block_not_verified",
        rule="E1",
        history="FISCO-BCOS #2206: invalid transactions in a proposal kept the group changing views.",
        edits=(Edit("ledger.chain:_verify_signature", "verify_transaction_signature(transaction)", "pass"),),
        caught_by=NamedTest(BLOCK_TESTS + "test_E1_a_transaction_with_a_bad_signature_refuses_the_block"),
    ),
    Mutant(
        name="results_not_compared",
        rule="E2",
        history="fabric 0.6 #761: a chaincode with random results, and every peer with its own state.",
        edits=(Edit("ledger.block_rules:verify_results", "encode(header) == encode(computed)", "True"),),
        caught_by=NamedTest(BLOCK_TESTS + "test_E1_a_corrupted_header_field_is_refused_by_name"),
    ),
    Mutant(
        name="other_results_than_a_quorum_are_borne",
        rule="E2",
        history="fabric 0.6 #1973: a replica believed itself up to date with a state that had diverged.",
        edits=(
            Edit(
                "consensus.replica:Replica._finish",
                "if agreement.has_diverged(certified.digest):",
                "if False:",
            ),
        ),
        caught_by=NamedTest(
            "consensus/test_replica.py::test_e2_a_replica_that_finds_other_results_than_a_quorum_halts"
        ),
    ),
    Mutant(
        name="text_of_an_exception_in_the_receipt",
        rule="E2",
        history="Tendermint keeps a result's log out of LastResultsHash, since texts differ (asked in "
        "axelar-core #117).",
        edits=(
            Edit(
                "ledger.executor:_run_calls",
                "except Exception:\n        return CONTRACT_FAULT, ()",
                "except Exception as fault:\n        return str(fault)[:40], ()",
            ),
        ),
        caught_by=NamedTest(EXECUTOR_TESTS + "test_a_failing_call_undoes_its_whole_transaction"),
    ),
    Mutant(
        name="rows_in_the_order_of_a_hash_seed",
        rule="E2",
        history="fabric 0.6 #761; iteration over a map is the first cause that tendermint #2914 asks for.",
        edits=(
            Edit(
                "ledger.state:BlockOverlay._list_own",
                "self._sorted = sorted(self.writes)",
                "import hashlib\n        self._sorted = sorted(self.writes, key=lambda key: "
                "hashlib.sha256(key).digest())",
            ),
        ),
        caught_by=NamedTest(
            EXECUTOR_TESTS + "test_later_transactions_of_a_block_see_and_scan_what_earlier_ones_wrote"
        ),
    ),
    Mutant(
        name="failed_transaction_leaves_its_writes",
        rule="E2",
        history="go-ethereum, November 2016: what a failed call had deleted stayed deleted, and the "
        "chain split.",
        edits=(
            Edit(
                "ledger.executor:Executor.execute",
                "if code == OK:\n            overlay.merge(context.writes)",
                "overlay.merge(context.writes)",
            ),
        ),
        caught_by=NamedTest(EXECUTOR_TESTS + "test_a_failing_call_undoes_its_whole_transaction"),
    ),
    Mutant(
        name="newest_software_decides",
        rule="E2",
        history="Bitcoin, March 2013 (BIP 50): blocks were judged by whatever software a node had, and the "
        "chain split between 0.7 and 0.8.",
        edits=(
            Edit(
                "ledger.contract_set:ContractSet.select", "active = self.read_versions(get)", "active = None"
            ),
        ),
        caught_by=NamedTest(
            "ledger/test_contract_versions.py::"
            "test_the_next_version_takes_over_above_the_height_and_not_before"
        ),
    ),
    Mutant(
        name="block_time_goes_back",
        rule="E3",
        history="FISCO-BCOS #4980 and #5166 (FIB-126): block time did not have to increase.",
        edits=(
            Edit(
                "ledger.block_rules:verify_before_execution",
                "header.time_ms <= head.header.time_ms",
                "False",
            ),
        ),
        caught_by=NamedTest(BLOCK_TESTS + "test_E3_block_time_must_pass_the_parents"),
    ),
    Mutant(
        name="block_time_of_any_clock",
        rule="E3",
        history="FISCO-BCOS #5166 (FIB-126): proposals of any time were accepted.",
        edits=(
            Edit(
                "ledger.block_rules:verify_freshness",
                "abs(header.time_ms - rule.wall_ms) > rule.tolerance_ms and not is_next_tick",
                "False",
            ),
        ),
        caught_by=NamedTest(BLOCK_TESTS + "test_E3_a_fresh_proposal_from_a_clock_that_is_off_is_refused"),
    ),
    Mutant(
        name="clock_behind_the_parent_stalls",
        rule="E3",
        history="FISCO-BCOS #4123: a block time too far from the clocks must not stall the chain.",
        edits=(Edit("ledger.block_rules:verify_freshness", "and not is_next_tick", ""),),
        caught_by=NamedTest(
            BLOCK_TESTS + "test_E3_one_tick_after_the_parent_passes_for_a_clock_behind_the_parent"
        ),
    ),
    Mutant(
        name="transaction_in_two_blocks",
        rule="E5",
        history="fabric 0.6 #2007: a former primary proposed what had been executed, once more.",
        edits=(Edit("ledger.executor:Executor._find_fault", "if is_committed(transaction):", "if False:"),),
        caught_by=NamedTest(
            BLOCK_TESTS + "test_E1_a_transaction_that_a_block_may_not_hold_refuses_the_block"
        ),
    ),
    Mutant(
        name="replay_after_a_restart",
        rule="E5",
        history="Castro and Liskov 1999, 4.1: exactly once rests on what replicas remember; in memory "
        "only, it ends at a restart.",
        edits=(
            Edit(
                "ledger.committed_ids:CommittedIds.may_hold",
                "if self._time_ms - self._window_ms < self._complete_from_ms:",
                "if False:",
            ),
        ),
        caught_by=NamedTest(MEMPOOL_TESTS + "test_E5_a_transaction_is_not_taken_again_after_a_restart"),
    ),
    Mutant(
        name="expiry_without_bound",
        rule="E5",
        history="Solana and Algorand bound it: without a window every id must be remembered for ever.",
        edits=(
            Edit(
                "ledger.executor:Executor._find_fault",
                "body.expires_ms > time_ms + self._parameters.expiry_window_ms_max",
                "False",
            ),
        ),
        caught_by=NamedTest(
            BLOCK_TESTS + "test_E1_a_transaction_that_a_block_may_not_hold_refuses_the_block"
        ),
    ),
    Mutant(
        name="keys_of_small_order_accepted",
        rule="E6",
        history="Chalkias et al., Taming the many EdDSAs (SSR 2020): libraries disagree on them, so "
        "ledgers fork.",
        edits=(
            Edit(
                "crypto.signatures:verify_signature",
                "_sign_open(signature + tag + message, public_key)",
                "from cryptography.hazmat.primitives.asymmetric import ed25519\n"
                "        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, tag + "
                "message)",
            ),
        ),
        caught_by=NamedTest("crypto/test_signatures.py::test_e6_public_keys_of_small_order_are_refused"),
    ),
    Mutant(
        name="good_transaction_refused_for_its_id",
        rule="V1",
        history="bitcoin #8279, #8525: a relay that spoiled the witness, outside the id, had the good "
        "transaction refused.",
        edits=(
            Edit(
                "ledger.mempool:Mempool._check_content",
                "self._refusals.get(transaction.signed_hash)",
                "self._refusals.get(transaction.transaction_id)",
            ),
            Edit(
                "ledger.mempool:Mempool._refuse",
                "self._refusals[transaction.signed_hash]",
                "self._refusals[transaction.transaction_id]",
            ),
        ),
        caught_by=NamedTest(MEMPOOL_TESTS + "test_a_bad_signature_is_remembered_for_these_bytes_only"),
    ),
    Mutant(
        name="uncertified_blocks_synced",
        rule="E4",
        history="tendermint-rs #275, FISCO-BCOS #5168 (FIB-127): what came by sync was taken without "
        "its proof.",
        edits=(
            Edit(
                "consensus.certificates:Certificate.verify",
                "_check_signers(self.epoch, self.signatures, replica_set)",
                "return",
            ),
        ),
        caught_by=NamedTest(
            "ledger/test_block_sync.py::test_what_is_not_the_certified_next_block_is_refused"
        ),
    ),
    Mutant(
        name="reads_answered_from_what_is_only_executed",
        rule="L4",
        history="Berger, Reiser and Bessani, arXiv 2107.11144: PBFT's read-only optimisation is not "
        "safe as it stands.",
        edits=(
            Edit(
                "ledger.chain:Chain.state",
                "return self._committed.state",
                "from ledger.state import BlockOverlay\n"
                "    overlay = BlockOverlay(self._committed.state)\n"
                "    for speculation in self._speculations.values():\n"
                "        overlay.merge(speculation.execution.writes)\n"
                "    return overlay",
            ),
        ),
        caught_by=NamedTest(READ_TESTS + "test_l4_no_read_shows_a_block_that_is_executed_and_not_committed"),
    ),
    Mutant(
        name="read_believed_from_one_replica",
        rule="L4",
        history="fabric 0.6 #761: a query is answered by one peer, and that may lie.",
        edits=(
            Edit(
                "ledger.epochs:verify_certified_header",
                "certificate.verify(chain_id, replica_set)",
                "pass",
            ),
        ),
        caught_by=NamedTest(READ_TESTS + "test_l4_a_replica_alone_proves_nothing_that_did_not_commit"),
    ),
)
