"""Bugs where a node joins by what others give it, or where one node runs twice."""

from __future__ import annotations

from tests.mutants.checks import NamedTest
from tests.mutants.mutant import Edit, Mutant

SNAPSHOT_TESTS = "ledger/test_snapshot.py::"
EPOCH_TESTS = "ledger/test_snapshot_epochs.py::"
SESSION_TESTS = "network/test_sessions.py::"
POLICY_TESTS = "network/test_join_policy.py::"
JOINING_TESTS = "network/test_joining.py::"

MUTANTS = (
    Mutant(
        name="joined_state_taken_on_trust",
        rule="E2",
        history="Castro and Liskov, OSDI 1999, section 5.3: what is transferred must be checked against "
        "a digest that a quorum vouches for.",
        edits=(
            Edit("ledger.snapshot:VerifiedManifest.verify_state_node", "if node != expected:", "if False:"),
        ),
        caught_by=NamedTest(SNAPSHOT_TESTS + "test_no_changed_state_chunk_is_taken"),
    ),
    Mutant(
        name="joined_receipts_taken_on_trust",
        rule="E2",
        history="The same for what is no state: results that a joined node would tell its clients.",
        edits=(
            Edit("ledger.snapshot:VerifiedBlock.verify_receipts", "if found != list(leaves):", "if False:"),
        ),
        caught_by=NamedTest(SNAPSHOT_TESTS + "test_no_changed_block_and_no_changed_receipt_is_taken"),
    ),
    Mutant(
        name="window_of_a_snapshot_may_be_short",
        rule="E5",
        history="A replay guard that does not survive: a joined node that does not know the transactions of "
        "the expiry window includes one a second time.",
        edits=(
            Edit(
                "ledger.snapshot:_verify_place",
                "if (header.time_ms <= oldest_ms) != (header.height == base):",
                "if False:",
            ),
        ),
        caught_by=NamedTest(SNAPSHOT_TESTS + "test_no_manifest_is_taken_that_the_genesis_does_not_vouch_for"),
    ),
    Mutant(
        name="snapshot_certified_by_any_set_so_far",
        rule="E4",
        history="Long-range attacks, on who joins: the members of a former set still hold their keys.",
        edits=(
            Edit(
                "ledger.snapshot:Epochs.verify",
                "epoch = bisect_left(self._ends, height)",
                "epoch = min(certified.certificate.epoch, len(self._ends))",
            ),
        ),
        caught_by=NamedTest(
            EPOCH_TESTS + "test_e4_the_former_set_certifies_no_snapshot_above_its_last_block"
        ),
    ),
    Mutant(
        name="healthy_node_sent_to_join",
        rule="L5",
        history="An earlier version of our own: a peer that held its manifest back until a block committed "
        "sent every honest node to join in the same seconds, and the chain stood.",
        edits=(
            Edit(
                "network.join_policy:JoinPolicy.needs_snapshot",
                "if base > height + 1 and",
                "if base > 0 and",
            ),
        ),
        caught_by=NamedTest(
            POLICY_TESTS
            + "test_l5_a_block_that_commits_while_a_peer_holds_its_manifest_back_sends_nobody_away"
        ),
    ),
    Mutant(
        name="joining_put_off_by_single_blocks",
        rule="L5",
        history="An earlier version of our own: one peer that still had the blocks gave one in each time "
        "limit, and the wait for a snapshot began anew with every height.",
        edits=(
            Edit(
                "network.join_policy:JoinPolicy.needs_snapshot",
                "if height - self._waiting_height >= self._settings.sync_blocks_max:",
                "if height != self._waiting_height:",
            ),
        ),
        caught_by=NamedTest(POLICY_TESTS + "test_l5_single_blocks_do_not_begin_the_wait_anew"),
    ),
    Mutant(
        name="snapshot_that_nobody_gives_chosen_for_ever",
        rule="L5",
        history="State sync of CometBFT (ADR 053) rejects a snapshot that got nowhere, and its senders where "
        "they are at fault; an earlier version of our own did not.",
        edits=(Edit("network.joining:Joining.run", "self._set_aside |= offer.peers", "pass"),),
        caught_by=NamedTest(
            JOINING_TESTS + "test_l5_a_newer_snapshot_of_which_nobody_gives_a_part_keeps_no_node_from_joining"
        ),
    ),
    Mutant(
        name="snapshot_that_is_taken_back_begun_for_ever",
        rule="L5",
        history="An earlier version of our own: one part in each fetch was enough to be believed, and to "
        "offer the same snapshot again.",
        edits=(Edit("network.joining:Joining._choose", "self._set_aside |= self._begun_from", "pass"),),
        caught_by=NamedTest(
            JOINING_TESTS
            + "test_l5_a_peer_that_gives_one_part_and_takes_its_snapshot_back_keeps_no_node_from_joining"
        ),
    ),
    Mutant(
        name="node_that_runs_twice_goes_on_voting",
        rule="P6",
        history="Validators that ran twice with one key after a failover, and were slashed.",
        edits=(
            Edit(
                "network.links:Links.send",
                "not peer.is_connected or self.copy_reason",
                "not peer.is_connected",
            ),
        ),
        caught_by=NamedTest(
            SESSION_TESTS + "test_two_nodes_with_one_key_on_real_links_fall_silent_and_the_peer_counts_it"
        ),
    ),
    Mutant(
        name="restart_taken_for_a_copy",
        rule="P6",
        history="The guard against it that guards too much: a restart finds the node's own former session.",
        edits=(
            Edit(
                "network.sessions:Sessions._note_own",
                "if greeting.seen == self._session and not self.copy_reason:",
                "if not self.copy_reason:",
            ),
        ),
        caught_by=NamedTest(
            SESSION_TESTS + "test_a_node_that_restarts_again_and_again_is_never_taken_for_a_copy"
        ),
    ),
)
