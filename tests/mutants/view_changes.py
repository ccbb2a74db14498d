"""Bugs in view changes: what is chosen, what is kept, who may begin a view, what is sent again."""

from __future__ import annotations

from tests.mutants.checks import FOUR, INTERCEPTED, Hunt, NamedTest
from tests.mutants.mutant import Edit, Mutant

RULE_TESTS = "consensus/test_view_change_rules.py::"
CHOICE_TESTS = "consensus/test_view_changes.py::"
RESTART_TESTS = "consensus/test_restart.py::"

MUTANTS = (
    Mutant(
        name="lowest_prepared_view_wins",
        rule="V5",
        history="fabric 0.6 #1111: the choice for a new view was computed over the wrong set.",
        edits=(
            Edit(
                "consensus.view_changes:compute_choice",
                "prepared = max(candidates",
                "prepared = min(candidates",
            ),
        ),
        caught_by=NamedTest(CHOICE_TESTS + "test_v5_random_view_changes_never_drop_what_may_be_final"),
    ),
    Mutant(
        name="prepared_block_ignored_in_the_choice",
        rule="V5",
        history="raijin #8: a view change dropped all that was prepared. Abraham et al., arXiv "
        "1712.01367, found as much in papers.",
        edits=(
            Edit(
                "consensus.view_changes:compute_choice",
                "if view_change.prepared is not None and",
                "if False and",
            ),
        ),
        caught_by=Hunt(("agreement", "no_halt"), INTERCEPTED, seeds=150),
    ),
    Mutant(
        name="prepared_blocks_of_other_heights_count",
        rule="V5",
        history="Castro and Liskov 1999, 4.4: only what lies above the checkpoint that is chosen counts.",
        edits=(
            Edit(
                "consensus.view_changes:compute_choice",
                "view_change.prepared.height == base_height + 1",
                "True",
            ),
        ),
        caught_by=NamedTest(CHOICE_TESTS + "test_v5_the_highest_view_wins_and_other_heights_do_not_count"),
    ),
    Mutant(
        name="votes_below_the_base_of_the_view",
        rule="V5",
        history="Castro and Liskov 1999, 4.4: who lacks the checkpoint that a view starts from "
        "fetches it first; what is prepared below it binds that view no more.",
        edits=(
            Edit(
                "consensus.state:ReplicaState.may_vote",
                "        and self.catch_up.certificate is None\n"
                "        and self.views.is_active\n"
                "        and self.head.height >= self.views.entered_height\n",
                "        and self.views.is_active\n",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v5_nobody_votes_at_or_below_the_base_of_its_view"),
    ),
    Mutant(
        name="primarys_choice_believed",
        rule="V5",
        history="FISCO-BCOS #5168 (FIB-124): what a NewView proposes was not compared with the view "
        "changes that it carries.",
        edits=(
            Edit(
                "consensus.agreement:Agreement.follow",
                "if obligation is not None and obligation.digest != digest:",
                "if False:",
            ),
        ),
        caught_by=NamedTest(
            RULE_TESTS + "test_v5_a_new_primary_that_ignores_the_prepared_block_gets_no_votes"
        ),
    ),
    Mutant(
        name="new_view_of_fewer_than_a_quorum",
        rule="V10",
        history="concord-bft #805: a replica tried to enter a view without a quorum of VIEW-CHANGEs.",
        edits=(
            Edit(
                "consensus.credentials:Credentials.verify_new_view",
                "len(signers) != len(new_view.view_changes) or len(signers) < self.replica_set.quorum.size",
                "False",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v5_a_new_view_with_altered_contents_is_refused"),
    ),
    Mutant(
        name="new_view_of_anybody",
        rule="V5",
        history="FISCO-BCOS #2448: view changes and new views with a false sender were accepted.",
        edits=(
            Edit(
                "consensus.credentials:Credentials.verify_new_view", "new_view.replica != expected", "False"
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v5_a_new_view_with_altered_contents_is_refused"),
    ),
    Mutant(
        name="new_view_with_unverified_view_changes",
        rule="V4",
        history="bos #166: a new view was made before the certificates for it were verified.",
        edits=(
            Edit(
                "consensus.credentials:Credentials.verify_new_view",
                "self.verify_view_change(view_change)",
                "pass",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v5_a_new_view_with_altered_contents_is_refused"),
    ),
    Mutant(
        name="view_change_leaves_out_what_is_prepared",
        rule="V7",
        history="IBFT (quorum #305; Saltini and Hyland-Wood, arXiv 1901.07160): the next proposer did "
        "not learn of the lock.",
        edits=(
            Edit(
                "consensus.views:Views.ask",
                "sign_view_change(view, base, prepared)",
                "sign_view_change(view, base, None)",
            ),
        ),
        caught_by=Hunt(("view_change_tells_all", "agreement", "no_halt"), FOUR, seeds=100),
    ),
    Mutant(
        name="unlocked_by_timeout",
        rule="V7",
        history="IBFT (quorum #305): a validator unlocked when its round timed out, so two blocks could "
        "become final.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._run_timer",
                "self._ask(",
                "state.agreement.prepared = None\n        self._ask(",
            ),
        ),
        caught_by=Hunt(("view_change_tells_all", "agreement", "no_halt"), FOUR, seeds=100),
    ),
    Mutant(
        name="older_lock_kept_against_the_new_view",
        rule="V7",
        history="IBFT (Saltini and Hyland-Wood, arXiv 1901.07160): two that are locked on two blocks "
        "refuse each other's for ever.",
        edits=(
            Edit(
                "consensus.agreement:Agreement.follow",
                "if obligation is not None and obligation.digest != digest:",
                "if self.prepared is not None and self.prepared.digest != digest:",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v7_two_locks_do_not_block_each_other"),
    ),
    Mutant(
        name="new_block_in_place_of_the_prepared_one",
        rule="V7",
        history="raijin #8: the new primary proposed another block where one had been prepared.",
        edits=(Edit("consensus.replica:Replica._lead", "if obligation is not None:", "if False:"),),
        caught_by=NamedTest(
            RULE_TESTS
            + "test_v7_a_prepared_block_is_proposed_again_byte_for_byte_and_without_a_freshness_check"
        ),
    ),
    Mutant(
        name="prepared_block_must_be_fresh_again",
        rule="V7",
        history="FISCO-BCOS #4123: a block agreed on a day before was refused for its time, for good. "
        "besu #7875: one of an older round, too.",
        edits=(
            Edit(
                "consensus.agreement:Agreement.follow",
                "is_fresh = obligation is None and not self._guard.has_vouched(self.height, view, digest)",
                "is_fresh = True",
            ),
        ),
        caught_by=NamedTest(
            RULE_TESTS
            + "test_v7_a_prepared_block_is_proposed_again_byte_for_byte_and_without_a_freshness_check"
        ),
    ),
    Mutant(
        name="missing_proposal_never_fetched",
        rule="V6",
        history="fabric 0.6 #1984: what is missing of a chosen batch must be had before anything goes on.",
        edits=(
            Edit(
                "consensus.agreement:Agreement.propose_again",
                "self._outbox.broadcast(ProposalRequest(self._credentials.epoch, self.height, digest))",
                "pass",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v6_a_new_primary_fetches_the_prepared_proposal_it_misses"),
    ),
    Mutant(
        name="any_proposal_taken_for_the_missing_one",
        rule="V6",
        history="Castro and Liskov 1999, 4.4: what was fetched is believed for its digest only.",
        edits=(
            Edit(
                "consensus.reception:Reception._on_proposal_response",
                "if digest == obligation.digest:\n        agreement.keep(digest, message.proposal)",
                "agreement.keep(obligation.digest, message.proposal)",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v6_a_wrong_proposal_in_an_answer_is_not_taken"),
    ),
    Mutant(
        name="refused_proposal_never_tried_again",
        rule="V6",
        history="fabric 0.6 #1984: what is missing comes later, and what was refused for it must be tried "
        "again.",
        edits=(
            Edit("consensus.agreement:Agreement._is_refused", "now_ms - refused_ms < self._retry_ms", "True"),
        ),
        caught_by=NamedTest(
            "consensus/test_replica.py::test_v6_a_proposal_that_could_not_be_executed_is_tried_again_soon"
        ),
    ),
    Mutant(
        name="blocks_asked_of_one_source_only",
        rule="V6",
        history="tendermint #2457: fast sync asked again where it had got a wrong block, and stuck.",
        edits=(Edit("consensus.catch_up:CatchUp.request", "self._attempts % len(self._sources)", "0"),),
        caught_by=NamedTest(
            "consensus/test_replica.py::test_v6_missing_blocks_are_asked_of_one_signer_after_the_other"
        ),
    ),
    Mutant(
        name="views_without_bound",
        rule="V8",
        history="FISCO-BCOS #2311, #2312: a view set to the largest int64 overflowed.",
        edits=(
            Edit("consensus.view_changer:ViewChanger._ask", "view > VIEW_MAX or", ""),
            Edit("consensus.patience:Patience.is_exhausted", "self._started_ms is None or", "False or"),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v8_at_the_highest_view_nothing_overflows"),
    ),
    Mutant(
        name="one_view_change_is_joined",
        rule="V8",
        history="FISCO-BCOS #2211: one node's large view made the others change views again and again.",
        edits=(
            Edit(
                "consensus.view_changes:ViewChanges.find_joinable",
                "len(above) > faults_max",
                "len(above) > 0",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v8_one_replica_alone_moves_nobody_however_high_it_asks"),
    ),
    Mutant(
        name="a_lone_high_view_is_joined",
        rule="V8",
        history="FISCO-BCOS #2211: nothing bounded how far one node's view could lead.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._rejoin",
                "view_change.view > highest + REJOIN_VIEWS_MAX",
                "False",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v8_one_replica_alone_moves_nobody_however_high_it_asks"),
    ),
    Mutant(
        name="lone_view_change_joined_every_time",
        rule="V8",
        history="FISCO-BCOS #3114: a node that was behind set off view changes all the time.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger._rejoin",
                "self._rejoin_pace.take(view_change.replica, now_ms) or not is_active",
                "True",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v8_one_replica_alone_causes_a_view_change_only_now_and_then"),
    ),
    Mutant(
        name="lone_view_change_never_joined",
        rule="V9",
        history="Castro and Liskov 1999, 4.5.2, joins on f + 1 only: one that asked alone votes no "
        "more, and n = 4 runs on without reserve.",
        edits=(
            Edit(
                "consensus.view_changes:ViewChanges.select_waiting",
                "self._received_ms[key] <= since_ms",
                "False",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_a_lone_view_change_of_a_live_peer_is_joined_after_a_while"),
    ),
    Mutant(
        name="highest_view_is_joined",
        rule="V9",
        history="Castro and Liskov 1999, 4.5.2: the smallest, or one faulty replica drives the views up.",
        edits=(Edit("consensus.view_changes:ViewChanges.find_joinable", "min(above)", "max(above)"),),
        caught_by=NamedTest(
            CHOICE_TESTS + "test_v9_the_smallest_view_is_joined_once_more_ask_than_may_be_faulty"
        ),
    ),
    Mutant(
        name="view_change_sent_once",
        rule="V9",
        history="Castro 2001, 5.2: what was lost is sent again on STATUS; else a lost VIEW-CHANGE stops "
        "the group.",
        edits=(
            Edit(
                "consensus.repair:_select_view_change",
                "not views.is_active and (status.view < views.asked or not status.is_active)",
                "False",
            ),
            Edit("consensus.repair:_select_view_proof", "if views.new_view is not None:", "if False:"),
        ),
        caught_by=NamedTest(
            RULE_TESTS + "test_v9_a_view_change_whose_first_messages_were_all_lost_converges"
        ),
    ),
    Mutant(
        name="new_view_sent_too_early",
        rule="V10",
        history="concord-bft #805: a view was to be entered before a quorum had asked for it.",
        edits=(Edit("consensus.views:Views.try_begin", "len(asking) < quorum", "len(asking) < quorum - 1"),),
        caught_by=Hunt(("honest_not_accused",), FOUR, seeds=60),
    ),
    Mutant(
        name="restart_enters_the_view_it_asked_for",
        rule="V10",
        history="concord-bft #805: after a restart a replica mistook the view that it had asked for, "
        "and tried to enter it.",
        edits=(
            Edit(
                "consensus.restoration:_restore_views",
                "views.adopt(memory.view_change, 0)",
                "views.restore_view(View(memory.view_change.view), head.height)",
            ),
        ),
        caught_by=NamedTest(
            RESTART_TESTS + "test_v10_after_a_restart_a_view_change_under_way_is_taken_up_again"
        ),
    ),
    Mutant(
        name="view_left_for_a_lower_one",
        rule="V10",
        history="concord-bft #805: a replica's view after a restart was lower than the one it had gone to.",
        edits=(
            Edit(
                "consensus.views:Views.is_news",
                "new_view.view < self.highest or new_view.view == 0",
                "new_view.view == 0",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v10_a_view_is_not_left_for_a_lower_one"),
    ),
    Mutant(
        name="bad_new_view_ends_the_view",
        rule="V11",
        history="FISCO-BCOS #2448: forged new views set off one view change after the other.",
        edits=(
            Edit(
                "consensus.view_changer:ViewChanger.on_new_view",
                "choice = state.views.accept(message)",
                "try:\n"
                "        choice = state.views.accept(message)\n"
                "    except ValueError:\n"
                "        self._ask(View(message.view + 1))\n"
                "        raise",
            ),
        ),
        caught_by=NamedTest(
            RULE_TESTS + "test_v11_an_invalid_new_view_changes_nothing_and_what_is_final_stays"
        ),
    ),
)
