"""Bugs in votes, quorums, certificates and the agreement on one height."""

from __future__ import annotations

from simulation.settings import SimulationSettings
from tests.mutants.checks import FOUR, Hunt, NamedTest
from tests.mutants.mutant import Edit, Mutant

REPLICA_TESTS = "consensus/test_replica.py::"
RULE_TESTS = "consensus/test_view_change_rules.py::"

MUTANTS = (
    Mutant(
        name="quorum_of_2f_plus_1",
        rule="V2",
        history="celo-blockchain #117; sawtooth-pbft has 2f + 1 for every n: of five, two threes may "
        "share only a faulty one.",
        edits=(
            Edit(
                "consensus.quorum:Quorum.size",
                "(self.replica_count + self.faults_max) // 2 + 1",
                "2 * self.faults_max + 1",
            ),
        ),
        caught_by=Hunt(("certificate",), SimulationSettings(replica_count=5), seeds=3),
    ),
    Mutant(
        name="quorum_one_too_small",
        rule="V2",
        history="Twins (Bano et al., arXiv 2004.10617): a quorum lowered on purpose, which such tests "
        "must find.",
        edits=(Edit("consensus.quorum:Quorum.size", "// 2 + 1", "// 2"),),
        caught_by=Hunt(("certificate",), FOUR, seeds=3),
    ),
    Mutant(
        name="prepare_of_the_primary_counts",
        rule="V3",
        history="Castro and Liskov 1999, 4.2: the PREPAREs are of different backups; the primary's "
        "would be its second vote.",
        edits=(
            Edit(
                "consensus.reception:Reception._on_vote",
                "sender == credentials.compute_primary(message.height, message.view)",
                "False",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_v3_a_prepare_of_the_primary_counts_for_nothing"),
    ),
    Mutant(
        name="one_signer_counts_twice",
        rule="V4",
        history="besu #1736: the PREPAREs of a certificate were counted, not their authors.",
        edits=(Edit("consensus.certificates:_check_signers", "len(set(signers)) != len(signers)", "False"),),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_v4_a_certificate_needs_distinct_signers_of_one_view_height_and_digest"
        ),
    ),
    Mutant(
        name="certificate_too_small",
        rule="V4",
        history="quorum #1324: f + 1 seals were enough for a block.",
        edits=(
            Edit(
                "consensus.certificates:_check_signers",
                "len(signers) < replica_set.quorum.size",
                "False",
            ),
        ),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_v4_a_certificate_needs_distinct_signers_of_one_view_height_and_digest"
        ),
    ),
    Mutant(
        name="prepared_without_its_primary",
        rule="V4",
        history="Castro and Liskov 1999, 4.2: prepared means the PRE-PREPARE and the PREPAREs for it.",
        edits=(
            Edit(
                "consensus.certificates:PreparedCertificate.verify",
                "self.primary not in {vote.replica for vote in self.signatures}",
                "False",
            ),
        ),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_v4_a_certificate_needs_distinct_signers_of_one_view_height_and_digest"
        ),
    ),
    Mutant(
        name="signer_need_not_be_the_peer",
        rule="V1",
        history="sawtooth-pbft #115 and FISCO-BCOS #2448: the sender that a message names was not "
        "compared with who had signed it.",
        edits=(Edit("consensus.reception:_check_sender", "claimed != sender", "False"),),
        caught_by=NamedTest(REPLICA_TESTS + "test_v1_a_message_of_another_signer_than_its_sender_is_refused"),
    ),
    Mutant(
        name="votes_counted_unverified",
        rule="V1",
        history="raijin #5: signatures of COMMITs were collected, counted, and never verified.",
        edits=(
            Edit(
                "consensus.votes:Slot._verify",
                "if vote.replica in self._verified[vote.phase]:",
                "if True:",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_v1_badly_signed_votes_make_no_quorum"),
    ),
    Mutant(
        name="vote_of_any_phase",
        rule="E5",
        history="FISCO-BCOS #5180: the kind of a message was not under its signature, so one served as "
        "another.",
        edits=(Edit("consensus.certificates:compute_vote_bytes", "phase, digest)", "0, digest)"),),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_e5_a_vote_does_not_count_on_another_chain_in_another_phase_or_slot"
        ),
    ),
    Mutant(
        name="vote_of_any_chain",
        rule="E5",
        history="EIP-155: without the chain under the signature, what was signed for one serves on another.",
        edits=(Edit("consensus.certificates:compute_vote_bytes", "(chain_id, epoch", "(bytes(32), epoch"),),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_e5_a_vote_does_not_count_on_another_chain_in_another_phase_or_slot"
        ),
    ),
    Mutant(
        name="vote_of_any_view",
        rule="V4",
        history="sawtooth-pbft #96: a seal did not say of which view its votes were.",
        edits=(Edit("consensus.certificates:compute_vote_bytes", "height, view, phase", "height, 0, phase"),),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_v4_a_certificate_needs_distinct_signers_of_one_view_height_and_digest"
        ),
    ),
    Mutant(
        name="view_change_with_prepared_block_of_another_height",
        rule="V4",
        history="sawtooth-pbft #96: of which sequence number a seal is was not checked.",
        edits=(
            Edit(
                "consensus.credentials:Credentials.verify_view_change", "prepared.height != expected", "False"
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v4_a_view_change_whose_parts_do_not_fit_is_refused"),
    ),
    Mutant(
        name="view_change_with_prepared_block_of_its_own_view",
        rule="V4",
        history="go-ibft #51: the round of a prepared certificate was compared with the wrong one.",
        edits=(Edit("consensus.credentials:Credentials._check_below", "view >= view_change.view", "False"),),
        caught_by=NamedTest(RULE_TESTS + "test_v4_a_view_change_whose_parts_do_not_fit_is_refused"),
    ),
    Mutant(
        name="view_change_with_forged_prepared_block",
        rule="V4",
        history="anchor #549: a round change that claimed to be prepared passed without the proof.",
        edits=(
            Edit(
                "consensus.credentials:Credentials.verify_view_change",
                "prepared.verify(self.chain_id, self.replica_set, self.blocks_per_primary, self.verify)",
                "pass",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v4_a_poisoned_view_change_voids_only_itself"),
    ),
    Mutant(
        name="view_change_with_forged_base",
        rule="V4",
        history="anchor #549: what a view change claims was believed without its proof; here its base.",
        edits=(
            Edit(
                "consensus.credentials:Credentials.verify_view_change",
                "self.verify_certificate(base)",
                "pass",
            ),
        ),
        caught_by=NamedTest(RULE_TESTS + "test_v4_a_view_change_on_a_forged_base_is_refused"),
    ),
    Mutant(
        name="forged_certificate_halts_a_replica",
        rule="E2",
        history="Aardvark (NSDI 2009): whatever one peer can set off, a faulty one will; here a halt.",
        edits=(
            Edit(
                "consensus.state:ReplicaState.learn",
                "self.credentials.verify_certificate(certificate)\n    if certificate.digest",
                "if certificate.digest",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_e2_a_forged_certificate_for_a_final_height_halts_nobody"),
    ),
    Mutant(
        name="vote_before_execution",
        rule="E1",
        history="FISCO-BCOS #2307: a block with a forged header was agreed on, and could never be executed.",
        edits=(
            Edit(
                "consensus.agreement:Agreement.follow",
                "if self._validated.get(digest) == view if is_fresh else digest in self._validated:",
                "if True:",
            ),
        ),
        caught_by=NamedTest(
            REPLICA_TESTS + "test_a_backup_votes_only_after_the_block_was_executed_with_the_same_result"
        ),
    ),
    Mutant(
        name="vote_above_a_block_that_is_not_durable",
        rule="P4",
        history="etcd-io/raft's order is persist, send, apply; otherwise a power cut leaves votes at h "
        "+ 1 of a replica that has no h.",
        edits=(
            Edit(
                "consensus.replica:Replica._advance",
                "    self._finish()",
                "    self._finish()\n"
                "    if (done := state.agreement.committing) is not None:\n"
                "        self._on_block_durable(BlockDurable(height=done.height, digest=done.digest))",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_no_vote_for_the_next_height_before_the_block_is_durable"),
    ),
    Mutant(
        name="honest_replica_accused",
        rule="E7",
        history="cometbft #1749: bogus signatures in evidence could have innocent validators punished.",
        edits=(Edit("consensus.votes:VoteLog.add_vote", "credentials.verify_vote(earlier)", "pass"),),
        caught_by=NamedTest(REPLICA_TESTS + "test_e7_nobody_is_accused_by_a_badly_signed_vote"),
    ),
    Mutant(
        name="forged_evidence_accepted",
        rule="E7",
        history="tendermint-rs GHSA-6jrf-4jv4-r9mw: a validator could pass off votes as another's.",
        edits=(
            Edit(
                "consensus.evidence:verify_evidence",
                "verify(public_key, tags.VOTE, message, vote.signature)",
                "pass",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_e7_forged_evidence_is_refused"),
    ),
    Mutant(
        name="equivocation_goes_unnoticed",
        rule="E7",
        history="tendermint before #592: a conflicting vote was logged, and that was all.",
        edits=(
            Edit(
                "consensus.votes:Slot.add",
                "return known if known.digest != vote.digest else None",
                "return None",
            ),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_e7_two_votes_for_one_slot_become_evidence_once"),
    ),
    Mutant(
        name="vote_that_no_replica_sends_raises",
        rule="V1",
        history="besu #2471, sawtooth-pbft #181: what peers send must not end or stop the process; here a "
        "PRE_PREPARE vote outside of a PRE-PREPARE, which has no place among the votes.",
        edits=(
            Edit("consensus.reception:Reception._on_vote", "if phase is Phase.PRE_PREPARE:", "if False:"),
        ),
        caught_by=NamedTest(REPLICA_TESTS + "test_v1_a_pre_prepare_vote_without_its_proposal_is_refused"),
    ),
)
