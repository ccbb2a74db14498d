"""Bundles: resources are kept byte for byte, and what is ambiguous or foreign is refused whole."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.bundles import BUNDLE_BYTES_MAX, ENTRIES_MAX, TITLE_CHARACTERS_MAX, BundleRefused, split_bundle
from tests.extra_data import list_extra_cases

RESOURCE_TYPE = "/entry/1/resource/resourceType"
PATIENT = {"resourceType": "Patient", "id": "p"}
OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "category": [{"coding": [{"code": "laboratory"}]}],
    "code": {"text": "haemoglobin"},
}
ORDER = {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {}}


def bundle(*resources: object, **head: object) -> bytes:
    entries = [{"fullUrl": f"urn:uuid:{index}", "resource": item} for index, item in enumerate(resources)]
    document = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return json.dumps(document | head).encode()


def refuse(raw: bytes) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        split_bundle(raw)
    return caught.value


def test_resources_are_cut_out_exactly_as_they_came() -> None:
    observation = (
        '{ "valueQuantity" : {"value":1.00,\t"unit":"g\\/L"},\r\n "status":"final",'
        ' "code":{"text":"\\u8840"}, "resourceType":"Observation" }'
    )
    patient = '{"resourceType":"Patient","name":[{"text":"张静 \\" ]} , "}]}'
    raw = (
        '\n{"type":"collection", "entry" : [ {"resource": '
        + observation
        + ' } ,{"fullUrl":"x","resource":'
        + patient
        + ', "search":{"mode":"match"}}],"resourceType":"Bundle"} \n'
    ).encode()
    first, second = split_bundle(raw)
    assert first.content == observation.encode()
    assert second.content == patient.encode()
    assert (first.title, first.media_type) == ("血", "application/fhir+json")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(
    extras=st.lists(st.dictionaries(st.text(max_size=6), json_values, max_size=4), max_size=5),
    head=st.dictionaries(st.text(max_size=6), json_values, max_size=3),
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 0, 3]),
    is_entry_first=st.booleans(),
)
def test_the_cut_resources_parse_to_what_the_whole_bundle_parses_to(
    extras: list[dict[str, object]],
    head: dict[str, object],
    is_ascii: bool,
    indent: int | None,
    is_entry_first: bool,
) -> None:
    kept = {"resourceType", "code", "title", "type", "meta", "status", "description", "fhirVersion", "entry"}
    resources: list[dict[str, object]] = [dict(PATIENT)]
    for extra in extras:
        clean = {f"x{key}" if key in kept else key: value for key, value in extra.items()}
        resources.append(clean | {"resourceType": "Basic"})
    document: dict[str, object] = {f"x{key}": value for key, value in head.items()}
    entry = {"entry": [{"fullUrl": "u", "resource": item} for item in resources]}
    named: dict[str, object] = {"resourceType": "Bundle", "type": "collection"}
    document = entry | document | named if is_entry_first else document | named | entry
    try:
        raw = json.dumps(document, ensure_ascii=is_ascii, indent=indent).encode()
    except UnicodeEncodeError:
        return
    records = split_bundle(raw)
    assert [json.loads(record.content) for record in records] == resources
    # In their order, without overlap, each is a piece of the original.
    place = 0
    for record in records:
        place = raw.index(record.content, place) + len(record.content)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"no json",
        b'{"resourceType":"Bundle"',
        b'{"resourceType":"Bundle"} x',
        b'{"resourceType" "Bundle"}',
        b'{"resourceType":"Bundle",}',
        b"{resourceType:1}",
        b'{"entry":[{"resource":{}}',
        b'{"entry":[{"resource":{}},]}',
        b'{"entry":[{"resource":{},}]}',
        b'{"entry":[{"resource":{}} {"resource":{}}]}',
        b"[1,]",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"a":"\x01"}',
        b'{"a":01}',
        b'{"a":1.}',
        b"{'a':1}",
    ],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    assert refuse(raw).code == "not_json"


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 21, "1." + "0" * 80, '{"a":1,"a":1}'],
)
@pytest.mark.parametrize("place", ["head", "entry", "resource"])
def test_ambiguous_json_is_refused_wherever_it_stands(value: str, place: str) -> None:
    raw = bundle(
        PATIENT | {"x": 1} if place == "resource" else PATIENT, **({"x": 1} if place == "head" else {})
    )
    text = raw.decode()
    if place == "entry":
        text = text.replace('{"fullUrl"', '{"x": 1, "fullUrl"')
    altered = text.replace('"x": 1', f'"x": {value}')
    assert altered != text
    assert refuse(altered.encode()).code == "not_json"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resourceType":"Bundle","resourceType":"Bundle"}',
        b'{"resourceType":"Bundle","entry":[],"entry":[]}',
        b'{"entry":[{"resource":{"resourceType":"Patient"},"resource":{"resourceType":"Patient"}}]}',
        b'{"\\u0065ntry":[],"entry":[]}',
    ],
)
def test_a_key_twice_is_refused_where_the_bundle_itself_is_walked(raw: bytes) -> None:
    refused = refuse(raw)
    assert refused.code == "not_json"
    assert refused.found.startswith("one key twice in an object")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_refused_before_it_is_parsed(opening: str) -> None:
    assert refuse(opening.encode() * 100_000).found.startswith("nesting deeper")


@pytest.mark.parametrize("raw", [b'"' + b'\\"' * 1_000_000, b'"' * 1_000_001, b'"' + b"\\" * 2_000_001])
def test_an_unfinished_string_costs_time_by_its_length_only(raw: bytes) -> None:
    started = time.process_time()
    assert refuse(raw).code == "not_json"
    # By the square of its length it would take hours.
    assert time.process_time() - started < 10


def test_a_small_text_cannot_make_the_parser_build_too_much() -> None:
    assert "arrays and objects" in refuse(b"[" + b"{}," * 2_000_000 + b"{}]").found
    assert "quotes" in refuse(b"[" + b'"",' * 1_000_000 + b'""]').found


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert split_bundle(bundle(PATIENT | {"text": {"div": "[" * 1_000 + '\\"{' * 1_000}}))


def test_size_and_number_of_entries_are_bounded() -> None:
    assert refuse(b" " * (BUNDLE_BYTES_MAX + 1)).code == "too_large"
    basic = {"resourceType": "Basic"}
    assert len(split_bundle(bundle(PATIENT, *[basic] * (ENTRIES_MAX - 1)))) == ENTRIES_MAX
    assert refuse(bundle(PATIENT, *[basic] * ENTRIES_MAX)).code == "too_many_entries"


@pytest.mark.parametrize(
    ("raw", "code", "where"),
    [
        (b"[]", "not_a_bundle", ""),
        (b'"text"', "not_a_bundle", ""),
        (b"{}", "not_a_bundle", "/resourceType"),
        (json.dumps(PATIENT).encode(), "not_a_bundle", "/resourceType"),
        (bundle(PATIENT, type="history"), "bundle_type", "/type"),
        (bundle(PATIENT, type=["collection"]), "bundle_type", "/type"),
        (bundle(PATIENT, fhirVersion="5.0.0"), "other_fhir_version", "/fhirVersion"),
        (bundle(), "no_entries", "/entry"),
        (b'{"resourceType":"Bundle","type":"batch"}', "no_entries", "/entry"),
        (b'{"resourceType":"Bundle","type":"batch","entry":{}}', "no_entries", "/entry"),
        (bundle(PATIENT, None), "entry_without_resource", "/entry/1/resource"),
        (bundle(PATIENT, "text"), "entry_without_resource", "/entry/1/resource"),
        (b'{"resourceType":"Bundle","type":"batch","entry":[1]}', "entry_without_resource", "/entry/0"),
        (
            b'{"resourceType":"Bundle","type":"batch","entry":[{"fullUrl":"x"}]}',
            "entry_without_resource",
            "/entry/0/resource",
        ),
        (bundle(PATIENT, {}), "unknown_resource", RESOURCE_TYPE),
        (bundle(PATIENT, {"resourceType": "MedicationOrder"}), "unknown_resource", RESOURCE_TYPE),
        (bundle(PATIENT, {"resourceType": "Transport"}), "unknown_resource", RESOURCE_TYPE),
        (bundle(PATIENT, {"resourceType": ["Patient"]}), "unknown_resource", RESOURCE_TYPE),
        (bundle(PATIENT, {"resourceType": "Bundle"}), "nested_bundle", "/entry/1/resource"),
        (bundle(PATIENT | {"id": 5}), "bad_resource", "/entry/0/resource/id"),
        (bundle(PATIENT | {"gender": [1]}), "bad_resource", "/entry/0/resource/gender"),
        (bundle(PATIENT | {"active": 1}), "bad_resource", "/entry/0/resource/active"),
        (bundle(PATIENT | {"name": "Ada"}), "bad_resource", "/entry/0/resource/name"),
        (bundle(PATIENT, OBSERVATION | {"meta": []}), "bad_resource", "/entry/1/resource/meta"),
        (bundle(PATIENT, OBSERVATION | {"category": {}}), "bad_resource", "/entry/1/resource/category"),
        (bundle(PATIENT, OBSERVATION | {"status": None}), "bad_resource", "/entry/1/resource/status"),
        (bundle(OBSERVATION), "no_patient", "/entry"),
        (bundle(PATIENT, PATIENT), "several_patients", "/entry"),
        (bundle(PATIENT, type="document"), "bad_document", "/entry/0/resource"),
    ],
)
def test_what_is_no_bundle_of_one_patient_is_refused_with_code_and_place(
    raw: bytes, code: str, where: str
) -> None:
    refused = refuse(raw)
    assert (refused.code, refused.where) == (code, where)
    assert str(refused).startswith(f"{where or '/'}: {refused.found} found, {refused.expected} expected")
    assert code not in str(refused), "whoever shows the message shows the code beside it"


@pytest.mark.parametrize(
    ("resource", "missing"),
    [
        ({"resourceType": "Observation", "status": "final"}, "code"),
        (ORDER, "medication[x]"),
        (
            {"resourceType": "Immunization", "status": "completed", "vaccineCode": {}, "patient": {}},
            "occurrence[x]",
        ),
        ({"resourceType": "Encounter", "status": "finished"}, "class"),
        ({"resourceType": "Claim"}, "status"),
        # As in FHIR R5, where these are of another shape.
        ({"resourceType": "Encounter", "status": "completed", "class": [{}]}, "class"),
        (ORDER | {"medication": {}}, "medication[x]"),
    ],
)
def test_a_resource_that_is_not_one_of_r4_is_refused(resource: dict[str, object], missing: str) -> None:
    refused = refuse(bundle(PATIENT, resource))
    assert (refused.code, refused.where) == ("bad_resource", f"/entry/1/resource/{missing}")


def test_an_extension_may_stand_for_a_required_primitive() -> None:
    resource = {"resourceType": "Observation", "_status": {"extension": []}, "code": {}}
    assert len(split_bundle(bundle(PATIENT, resource))) == 2


@pytest.mark.parametrize(
    "profile",
    [
        "http://hl7.org/fhir/5.0/StructureDefinition/Patient",
        "http://hl7.org/fhir/StructureDefinition/Patient|3.0.2",
    ],
)
def test_profiles_of_other_releases_are_refused(profile: str) -> None:
    refused = refuse(bundle(PATIENT | {"meta": {"profile": ["http://example.org/any|9", profile]}}))
    assert (refused.code, refused.where) == ("other_fhir_version", "/entry/0/resource/meta/profile/1")


def test_one_bad_entry_refuses_the_whole_bundle() -> None:
    good = [OBSERVATION] * 50
    assert len(split_bundle(bundle(PATIENT, *good))) == 51
    assert (
        refuse(bundle(PATIENT, *good, {"resourceType": "Observation"})).where == "/entry/51/resource/status"
    )


def test_messages_never_repeat_content() -> None:
    secret = "张静 1999-01-01"
    for raw in (
        bundle(PATIENT, {"resourceType": secret}),
        bundle(PATIENT, type=secret),
        bundle(PATIENT, {"resourceType": "Observation", "status": secret, "code": secret}),
        bundle(PATIENT | {"meta": {"profile": [f"http://hl7.org/fhir/5.0/StructureDefinition/{secret}"]}}),
        f'{{"a":"{secret}" "b"}}'.encode(),
        f'{{"{secret}":1,"{secret}":1}}'.encode(),
    ):
        assert secret not in str(refuse(raw))


def test_titles_are_short_text_that_can_be_shown() -> None:
    resource = OBSERVATION | {"code": {"text": "\ud800" + "x" * 500}}
    title = split_bundle(bundle(PATIENT, resource))[1].title
    assert len(title) == TITLE_CHARACTERS_MAX
    assert title.encode("utf-8").startswith(b"?x")


@pytest.mark.parametrize(
    "code", [7, [], {}, {"coding": []}, {"coding": [7]}, {"coding": 7}, None, [{"text": 7}]]
)
def test_odd_shapes_give_no_title_and_no_fault(code: object) -> None:
    resource = {"resourceType": "Basic", "code": code, "category": code, "type": code}
    assert split_bundle(bundle(PATIENT, resource))[1].title == ""


@pytest.mark.parametrize("path", list_extra_cases("fhir"))
def test_real_bundles_are_taken_byte_for_byte(path: Path) -> None:
    raw = path.read_bytes()
    resources = [entry["resource"] for entry in json.loads(raw)["entry"]]
    if path.stem.startswith(("practitionerInformation", "hospitalInformation")):
        assert refuse(raw).code == "no_patient"
        return
    records = split_bundle(raw)
    assert [json.loads(record.content) for record in records] == resources
    assert all(record.content in raw for record in records)
    classes = Counter(record.record_class for record in records)
    assert classes["basic_information"] == 1
    assert len(classes) >= 4
