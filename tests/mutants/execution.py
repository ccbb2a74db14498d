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
        history="fabric 0.6 #1984: a batch whose requests were missing was executed as an empty one.",
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
        history="FISCO-BCOS #2307: fields of a proposed block were looked at only when it was committed.",
        edits=(
            Edit("ledger.block_rules:verify_before_execution", "in expectations:", "in expectations[5:]:"),
        ),
        caught_by=NamedTest(BLOCK_TESTS + "test_E1_a_corrupted_header_field_is_refused_by_name"),
    ),
    Mutant(
        name="transactions_of_a_block_not_verified",
        rule="E1",
        history="fabric 0.6: whatever the primary put into a batch was executed.",
        edits=(Edit("ledger.chain:_verify_signature", "verify_transaction_signature(transaction)", "pass"),),
        caught_by=NamedTest(BLOCK_TESTS + "test_E1_a_transaction_with_a_bad_signature_refuses_the_block"),
    ),
    Mutant(
        name="results_not_compared",
        rule="E2",
        history="fabric 0.6 #761: replicas agreed on the order and differed in state, and nobody noticed.",
        edits=(Edit("ledger.block_rules:verify_results", "encode(header) == encode(computed)", "True"),),
        caught_by=NamedTest(BLOCK_TESTS + "test_E1_a_corrupted_header_field_is_refused_by_name"),
    ),
    Mutant(
        name="other_results_than_a_quorum_are_borne",
        rule="E2",
        history="fabric 0.6 #761: a replica that had diverged went on and answered from its own state.",
        edits=(
            Edit(
                "consensus.replica:Replica._finish",
                "if self._agreement.has_diverged(certified.digest):",
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
        history="Cosmos SDK: the log of a failed transaction is no part of its result, since texts differ.",
        edits=(
            Edit(
                "ledger.executor:Executor._run_calls",
                "except Exception:\n        return CONTRACT_FAULT, ()",
                "except Exception as fault:\n        return str(fault)[:40], ()",
            ),
        ),
        caught_by=NamedTest(EXECUTOR_TESTS + "test_a_failing_call_undoes_its_whole_transaction"),
    ),
    Mutant(
        name="rows_in_the_order_of_a_hash_seed",
        rule="E2",
        history="fabric 0.6 #761 and every ledger in Go: iteration over a map is another order on each node.",
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
        history="FISCO-BCOS: a reverted call's writes stayed in the cache of the node that had run it first.",
        edits=(
            Edit(
                "ledger.executor:Executor._execute_one",
                "if code == OK:\n        overlay.merge(context.writes)",
                "overlay.merge(context.writes)",
            ),
        ),
        caught_by=NamedTest(EXECUTOR_TESTS + "test_a_failing_call_undoes_its_whole_transaction"),
    ),
    Mutant(
        name="block_time_goes_back",
        rule="E3",
        history="tendermint before BFT time: a proposer's own clock was the block's time, forward or back.",
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
        history="FISCO-BCOS #4123: one node's clock in the future took the chain there.",
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
        history="FISCO-BCOS #4123: after one block from the future nobody could propose until that time "
        "came.",
        edits=(Edit("ledger.block_rules:verify_freshness", "and not is_next_tick", ""),),
        caught_by=NamedTest(
            BLOCK_TESTS + "test_E3_one_tick_after_the_parent_passes_for_a_clock_behind_the_parent"
        ),
    ),
    Mutant(
        name="transaction_in_two_blocks",
        rule="E5",
        history="fabric 0.6 and exchanges on Ethereum Classic (2016): what was executed once was executed "
        "again.",
        edits=(Edit("ledger.executor:Executor._find_fault", "if is_committed(transaction):", "if False:"),),
        caught_by=NamedTest(
            BLOCK_TESTS + "test_E1_a_transaction_that_a_block_may_not_hold_refuses_the_block"
        ),
    ),
    Mutant(
        name="replay_after_a_restart",
        rule="E5",
        history="fabric 0.6: the set of executed requests was kept in memory only.",
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
        history="Chalkias et al., Taming the many EdDSAs (SSR 2020): libraries disagree on them, so ledgers "
        "fork.",
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
        history="bitcoin #8525: witnesses are outside the id, so a relay with a bad one had the good one "
        "refused.",
        edits=(
            Edit(
                "ledger.mempool:Mempool.check",
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
        history="sawtooth-pbft: blocks fetched while catching up were committed without looking at their "
        "seal.",
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
        history="Berger, Reiser and Bessani, arXiv 2107.11144: PBFT's read-only optimisation answers from a "
        "state "
        "that a view change may still take back.",
        edits=(
            Edit(
                "ledger.chain:Chain.state",
                "return self._state",
                "from ledger.state import BlockOverlay\n"
                "    overlay = BlockOverlay(self._state)\n"
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
        history="Berger, Reiser and Bessani, arXiv 2107.11144: too few replies to a read leave it without an "
        "honest replica that has committed.",
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
