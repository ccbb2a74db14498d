"""Bugs in timers, in block time, and in what a peer may make a replica hold."""

from __future__ import annotations

from dataclasses import replace

from tests.mutants.checks import FOUR, Hunt, NamedTest
from tests.mutants.mutant import Edit, Mutant

REPLICA_TESTS = "consensus/test_replica.py::"
RULE_TESTS = "consensus/test_view_change_rules.py::"
PATIENCE_TESTS = "consensus/test_patience.py::"
WATCH_TESTS = "consensus/test_primary_watch.py::"
MESSAGE_TESTS = "consensus/test_messages.py::"

MUTANTS = (
    Mutant(
        name="no_view_timer",
        rule="L1",
        history="Fischer, Lynch and Paterson 1985: without a timer one dead primary is the end of progress.",
        edits=(
            Edit(
                "consensus.patience:Patience.is_exhausted",
                "return is_starved or now_ms - self._started_ms >= self.timeout_ms",
                "return False",
            ),
        ),
        caught_by=Hunt(("progress",), replace(FOUR, healing_ms_max=5_000), seeds=100),
    ),
    Mutant(
        name="timeouts_without_cap",
        rule="L1",
        history="besu #7642: the round timer doubled without end; in round 10 it was 4,096 seconds.",
        edits=(
            Edit(
                "consensus.patience:Patience.timeout_ms", ", self._settings.view_timeout_ms_max)", ", 2**62)"
            ),
            Edit("consensus.patience:Patience.is_exhausted", "is_starved or", ""),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_l1_timeouts_double_to_their_cap_while_views_fail"),
    ),
    Mutant(
        name="timer_runs_before_a_quorum_asks",
        rule="L1",
        history="fabric 0.6 #2007: a timer that ran during the view change undid the doubling of its "
        "timeout.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._needs_timer",
                "return state.views.count_asking() >= state.credentials.replica_set.quorum.size",
                "return True",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_l1_after_an_hour_without_a_quorum_work_goes_on_soon"),
    ),
    Mutant(
        name="timer_for_nothing",
        rule="L2",
        history="fabric 0.6 #639, besu #2095 and #1575: timers ran out for what had been executed.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._needs_timer",
                "return is_overdue or state.patience.oldest is not None or state.obligation is not None",
                "return True",
            ),
        ),
        caught_by=NamedTest(
            REPLICA_TESTS
            + "test_l2_with_a_dead_primary_and_nothing_to_do_only_an_overdue_idle_block_is_waited_for"
        ),
    ),
    Mutant(
        name="no_timer_for_an_overdue_idle_block",
        rule="L2",
        history="Found on this ledger: in a dead primary's turn block time stood still until all that clients"
        " signed expired too far after it to be taken, so nothing was pending and no timer ever ran.",
        edits=(Edit("consensus.view_changer:ViewChanger._needs_timer", "return is_overdue or ", "return "),),
        caught_by=NamedTest(
            REPLICA_TESTS
            + "test_l2_with_a_dead_primary_and_nothing_to_do_only_an_overdue_idle_block_is_waited_for"
        ),
    ),
    Mutant(
        name="timer_reset_by_any_transaction",
        rule="L3",
        history="Aardvark (Clement et al., NSDI 2009): PBFT's timer, reset by whatever executes, lets a "
        "primary starve one client.",
        edits=(
            Edit(
                "consensus.patience:Patience.note_commit",
                "self._waiting_ms = None",
                "self._waiting_ms = self._started_ms = None",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_l3_a_primary_that_leaves_out_one_transaction_is_replaced"),
    ),
    Mutant(
        name="timer_reset_by_being_told_again",
        rule="L3",
        history="Prime (Amir et al., DSN 2008): whoever can restart the timer can keep a bad primary.",
        edits=(Edit("consensus.patience:Patience.set_oldest", "if oldest == self.oldest:", "if False:"),),
        caught_by=NamedTest(
            PATIENCE_TESTS + "test_l3_being_told_of_the_same_oldest_again_does_not_start_the_timer_anew"
        ),
    ),
    Mutant(
        name="timer_reset_by_each_expiry",
        rule="L3",
        history="Found here: a client whose transactions expire one after the other held up every view "
        "change.",
        edits=(Edit("consensus.patience:Patience.is_exhausted", "is_starved or", ""),),
        caught_by=NamedTest(
            PATIENCE_TESTS + "test_l3_a_primary_that_lets_one_transaction_after_the_other_expire_is_replaced"
        ),
    ),
    Mutant(
        name="slow_primary_stays",
        rule="L3",
        history="Aardvark and Prime: a primary just under the timeout was never replaced.",
        edits=(
            Edit(
                "consensus.replica_set:ReplicaSet.compute_primary",
                "view + height // blocks_per_primary",
                "view",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_l3_a_slow_primary_keeps_its_turn_only_for_so_many_blocks"),
    ),
    Mutant(
        name="slow_primary_borne_for_its_whole_turn",
        rule="L3",
        history="Aardvark (NSDI 2009): PBFT's primary may be as slow as the timeout lets it be.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._run_timer",
                "or self._is_primary_slow()",
                "",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_l3_a_primary_that_is_slow_beside_the_others_is_replaced"),
    ),
    Mutant(
        name="slow_primary_forgiven_at_each_turn",
        rule="L3",
        history="Aardvark (NSDI 2009): a primary has to keep up with what others did before it.",
        edits=(
            Edit(
                "consensus.primary_watch:PrimaryWatch.note_block",
                "self.suspect = primary if self._is_slow(primary, waits_ms) else None",
                "self.suspect = primary if self._is_slow(primary, waits_ms) else None\n"
                "    if self.suspect is not None: waits_ms.clear()",
            ),
        ),
        caught_by=NamedTest(WATCH_TESTS + "test_l3_in_its_next_turn_one_more_slow_block_is_enough"),
    ),
    Mutant(
        name="empty_blocks_are_progress",
        rule="L3",
        history="besu #5881: empty blocks went on while transactions were waiting.",
        edits=(Edit("consensus.patience:Patience.note_commit", "if not is_empty:", "if True:"),),
        caught_by=NamedTest(
            PATIENCE_TESTS
            + "test_l1_only_a_block_with_transactions_after_which_another_is_the_oldest_is_progress"
        ),
    ),
    Mutant(
        name="clock_tolerance_stays_narrow",
        rule="E3",
        history="FISCO-BCOS #4123: blocks were too far from the local clocks, and the chain stood still "
        "for good.",
        edits=(
            Edit(
                "consensus.patience:Patience.tolerance_ms",
                "self._settings.clock_tolerance_ms << doublings",
                "self._settings.clock_tolerance_ms",
            ),
        ),
        caught_by=NamedTest(
            RULE_TESTS + "test_e3_the_clock_tolerance_widens_with_each_failed_view_up_to_a_cap"
        ),
    ),
    Mutant(
        name="votes_of_any_height_kept",
        rule="D1",
        history="starkware sequencer #14500: votes for future heights were kept without bound.",
        edits=(
            Edit(
                "consensus.votes:VoteLog.accepts",
                "self._height <= height <= self._height + HEIGHTS_AHEAD",
                "self._height <= height",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_d1_a_flood_of_votes_occupies_a_small_window"),
    ),
    Mutant(
        name="votes_of_any_view_kept",
        rule="D1",
        history="celo-blockchain #183, besu GHSA-23rh-rrqg-wq82: messages of future rounds were kept "
        "until memory was gone.",
        edits=(
            Edit(
                "consensus.votes:VoteLog.accepts",
                "self._view_near <= view <= self._view_high + VIEWS_AHEAD",
                "self._view_near <= view",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_d1_a_flood_of_votes_occupies_a_small_window"),
    ),
    Mutant(
        name="every_status_answered",
        rule="D1",
        history="Aardvark (NSDI 2009): requests to send again are a way to make honest replicas work.",
        edits=(
            Edit("consensus.repair:Repair.hear", "return self._statuses.take(sender, now_ms)", "return True"),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_d1_statuses_are_answered_at_a_pace"),
    ),
    Mutant(
        name="every_request_for_a_proposal_served",
        rule="D1",
        history="Aardvark (NSDI 2009): a small request with a large answer multiplies what one peer can do.",
        edits=(Edit("consensus.repair:Repair.serve", "and self._responses.take(sender, now_ms)", ""),),
        caught_by=NamedTest(RULE_TESTS + "test_d1_a_prepared_proposal_is_served_at_a_pace"),
    ),
    Mutant(
        name="own_votes_kept_for_ever",
        rule="D1",
        history="asonnino/hotstuff #7: votes are given up only when a round ends; here not even then.",
        edits=(
            Edit("consensus.state:ReplicaState.move_head", "self.guard.forget_through(head.height)", "pass"),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_d1_votes_at_durable_heights_are_forgotten"),
    ),
    Mutant(
        name="proposals_of_a_height_kept_without_bound",
        rule="D1",
        history="celo-blockchain #183: what was kept of each round added up while a height did not end.",
        edits=(Edit("consensus.agreement:Agreement.keep", "len(self._proposals) <= PROPOSALS_MAX", "True"),),
        caught_by=NamedTest(
            REPLICA_TESTS
            + "test_d1_proposals_of_a_height_that_never_ends_are_bounded_and_the_prepared_one_stays"
        ),
    ),
    Mutant(
        name="view_changes_verified_without_bound",
        rule="D1",
        history="Aardvark (NSDI 2009): a flood of costly messages from one replica took PBFT's "
        "throughput to zero.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._take_budget",
                "return self._budgets[sender] <= self._state.settings.view_changes_per_interval",
                "return True",
            ),
        ),
        caught_by=NamedTest(
            RULE_TESTS + "test_d1_one_peers_view_changes_cost_a_bounded_number_of_signatures"
        ),
    ),
    Mutant(
        name="size_checked_after_decoding",
        rule="D1",
        history="CWE-770: what a peer sends is measured before anything is made of it.",
        edits=(Edit("crypto.encoding:_check_size", "len(data) > size_max", "False"),),
        caught_by=NamedTest(MESSAGE_TESTS + "test_d1_an_oversized_message_is_refused_before_it_is_read"),
    ),
    Mutant(
        name="a_peers_messages_queue_without_bound",
        rule="D1",
        history="asonnino/hotstuff #7: anybody could fill a node's memory with votes.",
        edits=(
            Edit(
                "consensus.inbox:Inbox.put",
                "waiting_bytes > self._bytes_max",
                "False",
            ),
        ),
        caught_by=NamedTest("consensus/test_driver.py::test_a_peers_waiting_bytes_are_bounded"),
    ),
)
