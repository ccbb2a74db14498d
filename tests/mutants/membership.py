"""Bugs where the replica set changes: who certifies the change, whose votes count after it."""

from __future__ import annotations

from tests.mutants.checks import NamedTest
from tests.mutants.mutant import Edit, Mutant

EPOCH_TESTS = "consensus/test_epochs.py::"
LEDGER_TESTS = "ledger/test_epochs.py::"
RECOVERY_TESTS = "ledger/test_recovery_sync.py::"
APPLICATION_TESTS = "network/test_ledger_application.py::"
LOST_EPOCH_TESTS = "ledger/test_lost_epochs.py::"

MUTANTS = (
    Mutant(
        name="synced_block_verified_with_another_heights_set",
        rule="E4",
        history="sawtooth-pbft #86, FISCO-BCOS #2191, astria #589: a block was verified with the "
        "members of another height.",
        edits=(
            Edit(
                "ledger.block_sync:begin_sync_commit",
                "certificate.verify(chain.chain_id, replica_set)",
                "certificate.verify(chain.chain_id, replica_set if certificate.epoch else "
                "chain.genesis.replica_set)",
            ),
        ),
        caught_by=NamedTest(LEDGER_TESTS + "test_e4_the_former_set_certifies_nothing_above_its_last_block"),
    ),
    Mutant(
        name="change_in_force_in_its_own_block",
        rule="E4",
        history="Raft's change of one server at a time (Ongaro, raft-dev 2015): a change counted before "
        "it was committed.",
        edits=(
            Edit(
                "ledger.speculation:build_speculation",
                "replica_set_digest=replica_set.compute_digest()",
                "replica_set_digest=next_replica_set.compute_digest()",
            ),
        ),
        caught_by=NamedTest(
            LEDGER_TESTS + "test_e4_the_old_set_certifies_the_change_and_the_new_one_the_next_height"
        ),
    ),
    Mutant(
        name="set_lost_where_sync_was_first",
        rule="E4",
        history="Found here, in the simulator: a replica that committed what block sync had brought "
        "stayed in the old epoch for good.",
        edits=(
            Edit(
                "network.ledger_application:LedgerApplication.commit",
                "return self._chain.archive.find_next_replica_set(certificate.height)",
                "return None",
            ),
        ),
        caught_by=NamedTest(
            APPLICATION_TESTS
            + "test_rule_E4_a_block_that_sync_brought_first_still_tells_of_the_set_that_takes_over"
        ),
    ),
    Mutant(
        name="votes_of_another_epoch_count",
        rule="E4",
        history="BFT-SMaRt (Bessani et al., DSN 2014): every message names its view, and those of "
        "another do not count.",
        edits=(
            Edit(
                "consensus.reception:Reception._is_of_epoch",
                "return epoch == state.credentials.epoch",
                "return True",
            ),
        ),
        caught_by=NamedTest(EPOCH_TESTS + "test_e4_votes_of_another_epoch_count_for_nothing"),
    ),
    Mutant(
        name="former_set_goes_on_certifying",
        rule="E4",
        history="Long-range attacks: who has left the set still holds a key, and could sign another history.",
        edits=(Edit("consensus.certificates:_check_signers", "if epoch != replica_set.epoch:", "if False:"),),
        caught_by=NamedTest(LEDGER_TESTS + "test_e4_the_former_set_certifies_nothing_above_its_last_block"),
    ),
    Mutant(
        name="votes_of_the_last_epoch_bind_in_the_next",
        rule="E4",
        history="Lamport, Malkhi and Zhou, Stoppable Paxos (2008): what a stopped configuration left "
        "behind must not be taken up.",
        edits=(
            Edit("consensus.restoration:read_journal", "if vote.epoch == epoch", ""),
            Edit("consensus.restoration:restore", "vote.epoch != state.credentials.epoch or", ""),
        ),
        caught_by=NamedTest(EPOCH_TESTS + "test_e4_the_journal_of_another_epoch_binds_nobody"),
    ),
    Mutant(
        name="votes_of_an_epoch_that_the_ledger_lost_are_forgotten",
        rule="P5",
        history="This project, seed 1639 with six changes: a ledger that was given up began in the first "
        "epoch, and its replica proposed anew where it had proposed in the second.",
        edits=(
            Edit("consensus.restoration:read_journal", "if vote.epoch >= epoch", "if vote.epoch == epoch"),
        ),
        caught_by=NamedTest(
            EPOCH_TESTS + "test_p5_votes_of_an_epoch_that_the_ledger_lost_are_not_cast_again"
        ),
    ),
    Mutant(
        name="recovery_from_a_peer_opened_unsigned",
        rule="E4",
        history="The kinds of proof that were taken unverified (Poly Network, 2021: whoever names the next "
        "keepers owns the ledger); here a peer would, by a statement that nobody made.",
        edits=(
            Edit(
                "ledger.recovery:verify_recovery",
                "verify_signature(public_key, tags.RECOVERY, message, item.signature)",
                "pass",
            ),
        ),
        caught_by=NamedTest(
            RECOVERY_TESTS + "test_e4_a_forged_recovery_is_refused_and_leaves_the_node_as_it_was"
        ),
    ),
    Mutant(
        name="recovery_by_any_institution",
        rule="E4",
        history="Operators' overrides that a single one may use, such as `etcd --force-new-cluster`: two "
        "halves of a network each go on by themselves.",
        edits=(Edit("ledger.recovery:verify_recovery", "if not row.is_majority(signers):", "if False:"),),
        caught_by=NamedTest(
            RECOVERY_TESTS + "test_e4_a_forged_recovery_is_refused_and_leaves_the_node_as_it_was"
        ),
    ),
    Mutant(
        name="recovery_in_the_place_of_a_change",
        rule="E4",
        history="This project: an outsider took a recovery that hid the change which the replicas had "
        "certified in the same block.",
        edits=(
            Edit(
                "ledger.epochs:_verify_handover",
                "if header.next_replica_set_digest != header.replica_set_digest and not is_lost_whole:",
                "if False:",
            ),
        ),
        caught_by=NamedTest(
            LOST_EPOCH_TESTS
            + "test_e4_a_recovery_never_stands_in_the_place_of_the_change_that_the_block_makes"
        ),
    ),
    Mutant(
        name="silence_decided_by_members_of_a_former_epoch",
        rule="P6",
        history="This project: a wiped replica heard founders who had not come to the second epoch, and "
        "voted in that again.",
        edits=(
            Edit(
                "consensus.startup:Startup.open_epoch",
                "is_silent = not self.may_vote(height)",
                "is_silent, has_voted = False, True",
            ),
        ),
        caught_by=NamedTest(
            EPOCH_TESTS + "test_p6_what_members_of_a_former_epoch_remember_is_not_enough_for_the_next_one"
        ),
    ),
    Mutant(
        name="silence_of_a_former_epoch_holds_after_a_restart",
        rule="P6",
        history="This project: a crash after the block that closed the epoch, and before the record that "
        "silence is open again, ended the silence as members of the former epoch had decided it.",
        edits=(Edit("consensus.restoration:read_journal", "silences[-1].epoch == epoch", "True"),),
        caught_by=NamedTest(
            EPOCH_TESTS + "test_p6_silence_of_an_earlier_epoch_is_decided_anew_by_a_start_in_this_one"
        ),
    ),
    Mutant(
        name="members_of_the_next_epoch_not_asked",
        rule="P6",
        history="This project: a replica that was rolled back past the opening of an epoch asked only those "
        "who had not come to it either.",
        edits=(
            Edit("consensus.startup:Startup.open_epoch", "(has_voted and not is_silent)", "not is_silent"),
        ),
        caught_by=NamedTest(
            EPOCH_TESTS
            + "test_p6_whoever_has_not_voted_since_its_start_asks_the_members_of_the_next_epoch_too"
        ),
    ),
)
