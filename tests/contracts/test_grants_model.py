"""Random histories of grants, revocations and requests against the simplest model that could be right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import authorization
from contracts.calls.authorization import Authorize, Grant, Revoke
from contracts.calls.folders import EndMandate, FreezeAlias, ReinstateMandate, SuspendMandate, UnfreezeAlias
from contracts.calls.registry import ReinstateMember, SuspendMember
from contracts.errors import CallFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from tests.contracts.conftest import Ledger

MEMBERS = ("doctor", "colleague")
CLASSES = ("discharge_summaries", "laboratory_reports")
GRANTS = ("grant 0", "grant 1", "grant 2", "grant 3")
MINUTE_MS = 60_000

Switch = Literal["freeze", "mandate", "doctor"]


@dataclass(frozen=True)
class Give:
    grant: str
    member: str
    classes: tuple[str, ...]
    minutes: tuple[int, int]
    uses_max: int
    by_mandate: bool


@dataclass(frozen=True)
class Take:
    grant: str


@dataclass(frozen=True)
class Ask:
    grant: str
    member: str
    record: str


@dataclass(frozen=True)
class Turn:
    switch: Switch


@dataclass(frozen=True)
class Wait:
    minutes: int


Step = Give | Take | Ask | Turn | Wait

steps = st.one_of(
    st.builds(
        Give,
        grant=st.sampled_from(GRANTS),
        member=st.sampled_from(("", *MEMBERS)),
        classes=st.sampled_from([CLASSES, CLASSES[:1], CLASSES[1:]]),
        minutes=st.tuples(st.integers(-2, 6), st.integers(1, 12)),
        uses_max=st.integers(0, 2),
        by_mandate=st.booleans(),
    ),
    st.builds(Take, grant=st.sampled_from(GRANTS)),
    st.builds(
        Ask,
        grant=st.sampled_from(GRANTS),
        member=st.sampled_from(MEMBERS),
        record=st.sampled_from(CLASSES),
    ),
    st.builds(Turn, switch=st.sampled_from(["freeze", "mandate", "doctor"])),
    st.builds(Wait, minutes=st.integers(1, 5)),
)


@dataclass
class Given:
    """What the model knows of one grant."""

    give: Give
    from_ms: int
    until_ms: int
    from_height: int
    closed_height: int = 0
    uses: int = 0


@dataclass
class Model:
    """Grants in a dictionary and three switches."""

    grants: dict[str, Given] = field(default_factory=dict)
    off: set[Switch] = field(default_factory=set)

    def allows(self, ask: Ask, time_ms: int) -> bool:
        given = self.grants.get(ask.grant)
        if given is None or "freeze" in self.off or (ask.member == "doctor" and "doctor" in self.off):
            return False
        return (
            not given.closed_height
            and given.from_ms <= time_ms < given.until_ms
            and given.give.member in ("", ask.member)
            and ask.record in given.give.classes
            and (not given.give.uses_max or given.uses < given.give.uses_max)
            and not (given.give.by_mandate and "mandate" in self.off)
        )

    def had(self, grantee: str, height: int) -> bool:
        return any(
            given.give.member == grantee
            and given.from_height <= height
            and (given.closed_height == 0 or height < given.closed_height)
            for given in self.grants.values()
        )


def switch_call(ledger: Ledger, switch: Switch, *, off: bool) -> tuple[object, msgspec.Struct]:
    """Sender and call that turn the switch the other way."""
    alias, mandate, doctor = (ledger.make_id(name) for name in ("alias", "mandate", "doctor"))
    match switch:
        case "freeze":
            return ledger.hospital, UnfreezeAlias(alias) if off else FreezeAlias(alias, "dispute")
        case "mandate":
            return ledger.hospital, ReinstateMandate(mandate) if off else SuspendMandate(mandate, "court")
        case "doctor":
            return ledger.other, ReinstateMember(doctor) if off else SuspendMember(doctor, "leave")


def run_step(ledger: Ledger, model: Model, step: Step) -> None:
    match step:
        case Wait():
            ledger.time_ms += step.minutes * MINUTE_MS
        case Turn():
            off = step.switch in model.off
            sender, call = switch_call(ledger, step.switch, off=off)
            ledger.run(sender, call)  # type: ignore[arg-type]
            model.off ^= {step.switch}
        case Take():
            if run_code(ledger, Revoke(ledger.make_id(step.grant))) == "ok":
                assert model.grants[step.grant].closed_height == 0
                model.grants[step.grant].closed_height = ledger.height
            else:
                assert step.grant not in model.grants or model.grants[step.grant].closed_height
        case Give():
            run_give(ledger, model, step)
        case Ask():
            answer = ledger.run(ledger.other, make_request(ledger, step))
            allowed = model.allows(step, ledger.time_ms)
            assert (answer == ("allowed",)) == allowed, answer
            if allowed:
                model.grants[step.grant].uses += 1


def make_request(ledger: Ledger, ask: Ask) -> Authorize:
    return ledger.make_request(
        grant=ledger.make_id(ask.grant),
        member=ledger.make_id(ask.member),
        anchors=(ledger.make_id(ask.record),),
    )


def run_give(ledger: Ledger, model: Model, give: Give) -> None:
    from_ms = ledger.time_ms + give.minutes[0] * MINUTE_MS
    call: Grant = ledger.make_grant(
        give.grant,
        member=ledger.make_id(give.member) if give.member else b"",
        classes=give.classes,
        from_ms=from_ms,
        until_ms=from_ms + give.minutes[1] * MINUTE_MS,
        uses_max=give.uses_max,
        mandate=ledger.make_id("mandate") if give.by_mandate else b"",
    )
    code = run_code(ledger, call)
    if code == "ok":
        model.grants[give.grant] = Given(give, call.from_ms, call.until_ms, ledger.height)
        return
    refused = {
        "grant_exists": give.grant in model.grants,
        "alias_frozen": "freeze" in model.off,
        "mandate_inactive": give.by_mandate and "mandate" in model.off,
        "bad_arguments": call.until_ms <= ledger.time_ms,  # The window is over already.
    }
    assert refused[code]


def run_code(ledger: Ledger, call: msgspec.Struct) -> str:
    """How the custodian's transaction ends."""
    try:
        ledger.run(ledger.clinic, call)
    except CallFailed as error:
        return error.code
    return "ok"


def make_folder(ledger: Ledger) -> None:
    ledger.register_alias()
    for member in MEMBERS:
        ledger.register_member(member)
    for record_class in CLASSES:
        ledger.anchor(record_class, record_class)
    ledger.run(ledger.clinic, ledger.make_mandate())


@settings(max_examples=150, deadline=None)
@given(history=st.lists(steps, max_size=30))
def test_a_request_is_allowed_exactly_within_a_live_grant(
    make_ledger: Callable[[], Ledger], history: list[Step]
) -> None:
    ledger, model = make_ledger(), Model()
    make_folder(ledger)
    for step in history:
        run_step(ledger, model, step)
    check_pairs(ledger, model)


def check_pairs(ledger: Ledger, model: Model) -> None:
    """The pair rows at the head answer for every height since the genesis."""
    for grantee in ("", *MEMBERS):
        key = ledger.make_id(grantee) if grantee else ledger.other.institution
        pair = authorization.get_pair(ledger.state, ledger.make_id("alias"), key)
        for height in range(ledger.height + 1):
            had = pair is not None and pair.had_grant(height)
            assert had == model.had(grantee, height), (grantee, height)


def test_grant_by_a_mandate_that_ended_stays_dead(folder: Ledger) -> None:
    folder.run(folder.clinic, folder.make_mandate())
    folder.run(folder.clinic, folder.make_grant(mandate=folder.make_id("mandate")))
    folder.run(folder.clinic, EndMandate(folder.make_id("mandate"), "majority"))
    assert folder.run(folder.other, folder.make_request()) == ("refused", "mandate_inactive")
