"""Bugs between a promise and the disk: what leaves too early, what a restart forgets, what a disk hides."""

from __future__ import annotations

from tests.mutants.checks import CRASHING, FOUR, Hunt, NamedTest
from tests.mutants.mutant import Edit, Mutant

REPLICA_TESTS = "consensus/test_replica.py::"
RESTART_TESTS = "consensus/test_restart.py::"
DRIVER_TESTS = "consensus/test_driver.py::"
JOURNAL_TESTS = "consensus/test_journal.py::"
STORE_TESTS = "ledger/test_store.py::"
CHAIN_TESTS = "ledger/test_chain.py::"
APPLICATION_TESTS = "network/test_ledger_application.py::"

OTHERS_NOT_HEARD = Edit("consensus.startup:_is_mine", "statement.replica != credentials.replica", "True")
"""What others remember of a restarted replica is a second line of defence; without it the first must hold."""

SAID_TWICE = (
    "no_equivocation",
    "no_vote_below_view_change",
    "one_view_change_per_view",
    "honest_not_accused",
    "promise_on_disk",
)

MUTANTS = (
    Mutant(
        name="vote_leaves_before_it_is_on_disk",
        rule="P1",
        history="etcd-io/raft names it as its users' first duty: persist, then send.",
        edits=(Edit("consensus.agreement:Agreement._cast", "self._persist(vote)", "pass"),),
        caught_by=Hunt(("promise_on_disk",), FOUR, seeds=3),
    ),
    Mutant(
        name="proposal_not_journaled_with_its_vote",
        rule="P1",
        history="After a power cut of all, votes for a block that nobody has any more (compare fabric "
        "0.6 #1984).",
        edits=(
            Edit(
                "consensus.agreement:Agreement._persist",
                "if vote.digest not in self._journaled:",
                "if False:",
            ),
        ),
        caught_by=Hunt(("promise_on_disk",), FOUR, seeds=3),
    ),
    Mutant(
        name="bodies_not_journaled_with_their_proposal",
        rule="P1",
        history="After a power cut of all, a header whose transactions were in memory only (compare "
        "fabric 0.6 #1984).",
        edits=(
            Edit(
                "consensus.driver:Driver._persist",
                "if isinstance(record, ProposalRecord) else",
                "if False else",
            ),
        ),
        caught_by=NamedTest(DRIVER_TESTS + "test_rule_P1_a_proposal_is_journaled_with_every_body"),
    ),
    Mutant(
        name="sync_takes_away_what_is_vouched_for",
        rule="P1",
        history="Found here: block sync made a height durable before the replica had voted there, and the "
        "node died of the missing bodies.",
        edits=(
            Edit(
                "network.ledger_application:LedgerApplication._write",
                "self._on_pending(",
                "self.forget_through(pending.certificate.height)\n    self._on_pending(",
            ),
        ),
        caught_by=NamedTest(
            APPLICATION_TESTS
            + "test_rule_P1_a_replica_that_sync_has_overtaken_may_still_journal_what_it_vouches_for"
        ),
    ),
    Mutant(
        name="journal_not_synced",
        rule="P1",
        history="tendermint #10108, tmkms (gno #5915): the last signature was written and not synced.",
        edits=(Edit("consensus.journal:Journal.append", "os.fdatasync(self._descriptor)", "pass"),),
        caught_by=NamedTest(
            JOURNAL_TESTS + "test_rule_P1_a_power_cut_at_any_sync_point_loses_nothing_that_was_acknowledged"
        ),
    ),
    Mutant(
        name="rename_not_synced",
        rule="P1",
        history="cometbft #6031: the last signed state was renamed into place, and the folder not synced.",
        edits=(Edit("consensus.journal:_sync_directory", "os.fsync(descriptor)", "pass"),),
        caught_by=NamedTest(
            JOURNAL_TESTS + "test_rule_P1_a_power_cut_at_any_sync_point_loses_nothing_that_was_acknowledged"
        ),
    ),
    Mutant(
        name="prepared_certificate_not_on_disk",
        rule="P2",
        history="Castro 2001, 2.4: what a COMMIT vouches for must reach the next view, restarts or not.",
        edits=(
            Edit(
                "consensus.agreement:Agreement._try_prepare",
                "self._outbox.persist(PreparedRecord(certificate))",
                "pass",
            ),
        ),
        caught_by=Hunt(("promise_on_disk",), FOUR, seeds=3),
    ),
    Mutant(
        name="prepared_certificate_forgotten_at_restart",
        rule="P2",
        history="Protocol-Aware Recovery (Alagappan et al., FAST 2018): an entry dropped at a restart "
        "had been final.",
        edits=(
            OTHERS_NOT_HEARD,
            Edit("consensus.restoration:restore", "agreement.prepared = memory.prepared", "pass"),
        ),
        caught_by=Hunt(("view_change_tells_all", "agreement", "no_halt"), CRASHING, seeds=300),
    ),
    Mutant(
        name="older_prepared_certificate_after_a_restart",
        rule="P2",
        history="Protocol-Aware Recovery (FAST 2018): a recovery that takes up an older entry undoes a "
        "promise as well as one that takes up none.",
        edits=(Edit("consensus.restoration:read_journal", "prepared=max(prepared", "prepared=min(prepared"),),
        caught_by=NamedTest(
            RESTART_TESTS + "test_p2_a_restart_takes_up_what_was_prepared_in_the_highest_view"
        ),
    ),
    Mutant(
        name="view_change_not_on_disk",
        rule="P3",
        history="concord-bft #639, #805: what a replica knew of its views after a restart did not fit "
        "together.",
        edits=(
            Edit("consensus.views:Views.ask", "self._outbox.persist(ViewChangeRecord(view_change))", "pass"),
        ),
        caught_by=Hunt(("promise_on_disk",), FOUR, seeds=40),
    ),
    Mutant(
        name="new_view_not_on_disk",
        rule="P3",
        history="concord-bft #639: a replica restarted after a view change could not load its view.",
        edits=(
            Edit("consensus.views:Views._enter_by", "self._outbox.persist(NewViewRecord(new_view))", "pass"),
        ),
        caught_by=Hunt(("promise_on_disk",), FOUR, seeds=40),
    ),
    Mutant(
        name="view_change_forgotten_at_restart",
        rule="P3",
        history="concord-bft #805: a replica came back in the last active view, not in the one that it "
        "had asked for.",
        edits=(
            OTHERS_NOT_HEARD,
            Edit("consensus.restoration:_restore_views", "memory.view_change is not None", "False"),
            Edit("consensus.restoration:restore", "if vote.view < state.views.asked:", "if False:"),
        ),
        caught_by=Hunt(SAID_TWICE, CRASHING, seeds=300),
    ),
    Mutant(
        name="votes_forgotten_at_restart",
        rule="P5",
        history="tendermint #3418: a data folder that was removed, with the key kept, leads to a second "
        "signature.",
        edits=(
            OTHERS_NOT_HEARD,
            Edit("consensus.restoration:restore", "for vote in memory.votes:", "for vote in ():"),
        ),
        caught_by=Hunt(SAID_TWICE, CRASHING, seeds=150),
    ),
    Mutant(
        name="guard_signs_a_second_digest",
        rule="P5",
        history="tendermint #247: the guard let a second precommit of one round be signed.",
        edits=(
            Edit(
                "consensus.vote_guard:VoteGuard.sign",
                "return known if known.digest == digest else None",
                "pass",
            ),
        ),
        caught_by=NamedTest(
            RESTART_TESTS + "test_p5_after_a_restart_another_proposal_for_a_voted_slot_gets_no_vote"
        ),
    ),
    Mutant(
        name="guard_of_the_height_blocks_later_views",
        rule="P5",
        history="tendermint #3089: the last signed state refused what a later round had to sign, until "
        "it was edited by hand.",
        edits=(
            Edit(
                "consensus.vote_guard:VoteGuard.sign",
                "if known is not None:",
                "if known is None and any(s[0] == height and s[2] is phase for s in self._votes):\n"
                "        return None\n"
                "    if known is not None:",
            ),
            Edit("consensus.vote_guard:VoteGuard.forget_below", "slot[1] >= view", "True"),
        ),
        caught_by=Hunt(("progress", "bounded"), FOUR, seeds=60),
    ),
    Mutant(
        name="journal_truncated_before_the_block_is_durable",
        rule="P4",
        history="Pillai et al., OSDI 2014: in many applications a log went before what replaces it was "
        "durable.",
        edits=(
            Edit(
                "consensus.agreement:Agreement.complete",
                "        self._discard_except(digest)",
                "        self._discard_except(digest)\n"
                "        from consensus.effects import TruncateJournal\n"
                "        self._outbox.apply(TruncateJournal(height=self.height))",
            ),
            Edit(
                "simulation.node:Node._apply",
                "self._truncate_height = action.height",
                "self.disk.truncate(action.height)",
            ),
        ),
        caught_by=Hunt((*SAID_TWICE, "view_change_tells_all", "no_exception"), CRASHING, seeds=300),
    ),
    Mutant(
        name="block_not_synced",
        rule="P4",
        history="etcd 3.5 #13766: an entry counted as applied before all that it changed was durable.",
        edits=(
            Edit(
                "ledger.speculation:PendingCommit.write",
                "self.store.write(puts, deletes)",
                "self.store.write(puts, deletes, is_synced=False)",
            ),
        ),
        caught_by=NamedTest(CHAIN_TESTS + "test_P4_a_block_is_written_in_one_synced_batch"),
    ),
    Mutant(
        name="block_in_two_batches",
        rule="P4",
        history="etcd 3.5 #13766: the applied index and the state it speaks of were not written atomically.",
        edits=(
            Edit(
                "ledger.speculation:PendingCommit.write",
                "self.store.write(puts, deletes)",
                "self.store.write(puts[:1])\n    self.store.write(puts[1:], deletes)",
            ),
        ),
        caught_by=NamedTest(CHAIN_TESTS + "test_P4_a_block_is_written_in_one_synced_batch"),
    ),
    Mutant(
        name="no_silence_after_amnesia",
        rule="P6",
        history="Michael et al., DISC 2017: in published recoveries a replica that had forgotten all "
        "took part too early.",
        edits=(
            Edit(
                "consensus.startup:Startup.may_vote",
                "self._is_decided and height >= self.silent_until",
                "True",
            ),
            OTHERS_NOT_HEARD,
        ),
        caught_by=Hunt(SAID_TWICE, FOUR, seeds=400),
    ),
    Mutant(
        name="silence_one_height_too_short",
        rule="P6",
        history="Michael et al., DISC 2017: a recovering replica must pass all that it may have said.",
        edits=(Edit("consensus.startup:Startup.try_decide", "known_height + 2", "known_height + 1"),),
        caught_by=NamedTest(
            RESTART_TESTS + "test_p6_a_replica_without_journal_is_silent_until_its_old_votes_cannot_matter"
        ),
    ),
    Mutant(
        name="last_vote_remembered_not_the_highest",
        rule="P6",
        history="Michael et al., DISC 2017: messages that come out of order must not lower what is known.",
        edits=(
            Edit("consensus.votes:VoteLog.remember", "_compute_rank(vote) > _compute_rank(known)", "True"),
        ),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_p6_the_highest_vote_of_a_replica_is_remembered_in_whatever_order_they_come"
        ),
    ),
    Mutant(
        name="silence_counted_from_the_own_head",
        rule="P6",
        history="Michael et al., DISC 2017: how far the others are must be learnt before anything is said.",
        edits=(
            Edit(
                "consensus.startup:Startup.try_decide",
                "certificate is not None and certificate.epoch == credentials.epoch",
                "False",
            ),
        ),
        caught_by=NamedTest(
            RESTART_TESTS + "test_p6_silence_is_counted_from_the_highest_block_that_others_report"
        ),
    ),
    Mutant(
        name="silence_without_regard_to_own_votes",
        rule="P6",
        history="Michael et al., DISC 2017: what others remember of the replica itself counts too.",
        edits=(
            Edit(
                "consensus.startup:Startup.try_decide",
                "known_height = max(known_height, vote.height - 1)",
                "pass",
            ),
        ),
        caught_by=NamedTest(
            RESTART_TESTS + "test_p6_silence_is_counted_from_a_vote_of_its_own_that_others_remember"
        ),
    ),
    Mutant(
        name="silence_forgotten_at_the_next_restart",
        rule="P6",
        history="Protocol-Aware Recovery (FAST 2018): a node restarted while it recovers must recover again.",
        edits=(
            Edit("consensus.replica:Replica._on_tick", "state.outbox.persist(SilenceRecord(0))", "pass"),
            Edit(
                "consensus.state:ReplicaState.try_start",
                "self.outbox.persist(SilenceRecord(self.startup.silent_until, self.credentials.epoch))",
                "pass",
            ),
        ),
        caught_by=NamedTest(RESTART_TESTS + "test_p6_silence_survives_a_restart"),
    ),
    Mutant(
        name="rolled_back_ledger_goes_unnoticed",
        rule="P6",
        history="LevelDB opens a truncated log without complaint; cometbft #6031 shows what a rolled- "
        "back state leads to.",
        edits=(
            Edit(
                "consensus.startup:Startup.__init__",
                "voted_height > max(height + 1, self.silent_until)",
                "False",
            ),
        ),
        caught_by=NamedTest(
            RESTART_TESTS
            + "test_p6_a_ledger_that_was_rolled_back_under_its_journal_is_noticed_by_the_journal_itself"
        ),
    ),
    Mutant(
        name="anybody_can_silence_a_replica",
        rule="P6",
        history="Aardvark (NSDI 2009): whatever one peer can set off, a faulty one will.",
        edits=(Edit("consensus.startup:_is_mine", "credentials.verify_vote(statement)", "pass"),),
        caught_by=NamedTest(RESTART_TESTS + "test_p6_nobody_is_silenced_by_a_vote_that_it_never_cast"),
    ),
    Mutant(
        name="store_error_swallowed",
        rule="P7",
        history="LevelDB after one ENOSPC acknowledged a hundred synced puts and lost them all (tried).",
        edits=(Edit("ledger.store:Store.write", "self.fail(error)", "pass"),),
        caught_by=NamedTest(STORE_TESTS + "test_P7_after_the_first_error_the_handle_is_never_used_again"),
    ),
    Mutant(
        name="store_used_again_after_an_error",
        rule="P7",
        history="PostgreSQL's fsyncgate (2018): the second fsync succeeded, and the data were gone.",
        edits=(
            Edit(
                "ledger.store:Store.fail",
                'self._failure = f"{type(error).__name__}: {error}"',
                "pass",
            ),
        ),
        caught_by=NamedTest(STORE_TESTS + "test_P7_after_the_first_error_the_handle_is_never_used_again"),
    ),
    Mutant(
        name="journal_used_again_after_an_error",
        rule="P7",
        history="Rebello et al., USENIX ATC 2020: none of five applications handled a failed fsync.",
        edits=(Edit("consensus.journal:Journal._fail", "self._failure = reason", "pass"),),
        caught_by=NamedTest(
            JOURNAL_TESTS + "test_rule_P7_after_a_disk_error_the_journal_is_dead_and_a_new_start_is_clean"
        ),
    ),
    Mutant(
        name="rows_read_without_their_checksums",
        rule="P8",
        history="LevelDB as it comes: one flipped bit made 13 of 200 rows vanish without an error (tried).",
        edits=(
            Edit("ledger.store:Snapshot.scan", "verify_checksums=True", "verify_checksums=False"),
            Edit("ledger.store:Store.get", "verify_checksums=True", "verify_checksums=False"),
            Edit("ledger.store:Store.open", "paranoid_checks=True", "paranoid_checks=False"),
        ),
        caught_by=NamedTest(STORE_TESTS + "test_P8_a_flipped_bit_is_an_error_and_never_a_missing_row"),
    ),
    Mutant(
        name="damaged_journal_taken_for_torn",
        rule="P8",
        history="Protocol-Aware Recovery (FAST 2018): systems cut their log at the first bad entry, "
        "whatever followed.",
        edits=(
            Edit(
                "consensus.journal:_check_torn",
                "if _decode_frame(data, candidate, mark) is not None:",
                "if False:",
            ),
        ),
        caught_by=NamedTest(JOURNAL_TESTS + "test_no_flipped_bit_before_the_last_frame_goes_unnoticed"),
    ),
)
