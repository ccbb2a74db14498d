"""Institutions that come and go: a newcomer asks with a file, an institution proposes it, all vote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cli.acting_institution import ActingInstitution, InBlocksOption, read_identifier
from cli.output import fail, show
from cli.session import DEFAULT_FOLDER, JsonOption, NetworkOption, NodeOption
from client.signing import draw_identifier
from contracts.calls.changes import Removal
from contracts.calls.registry import InstitutionKind
from crypto.key_files import KeyFileError, generate_signing_key, write_key_file
from ledger.admission_file import (
    FILE_BYTES_MAX,
    AdmissionRequest,
    decode_request,
    encode_request,
    sign_request,
)
from ledger.errors import ProofRefused

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The request file.")]


def request_admission(
    name: Annotated[str, typer.Option(help="The institution's name, as people read it.")],
    kind: Annotated[InstitutionKind, typer.Option(help="What it is.")],
    gateway_url: Annotated[str, typer.Option(help="Where its gateway will be.")],
    genesis: Annotated[str, typer.Option(help="Digest of the network's genesis, from one of its members.")],
    key: Annotated[Path, typer.Option(dir_okay=False, help="The institution's new key file, to be written.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The request file to write.")],
    as_json: JsonOption = False,
) -> None:
    """As an institution that is to come: make its key, and the request that a member then proposes.

    The key never leaves this host; the file holds nothing secret. Needs no network.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", genesis):
        raise typer.BadParameter("64 hexadecimal digits expected", param_hint="--genesis")
    signing_key = generate_signing_key()
    try:
        request = sign_request(
            signing_key,
            chain_id=bytes.fromhex(genesis),
            institution=draw_identifier(),
            kind=kind,
            name=name,
            gateway_url=gateway_url,
        )
        write_key_file(key, signing_key)
    except (ProofRefused, KeyFileError) as error:
        fail(str(error))
    out.write_bytes(encode_request(request))
    show(_describe(request), as_json=as_json)


def show_request(file: FileArgument, as_json: JsonOption = False) -> None:
    """What a request file asks for. Compare the key by another way before you vote for it."""
    show(_describe(_read(file)), as_json=as_json)


def propose_admission(
    file: FileArgument,
    in_blocks: InBlocksOption = 1_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose to admit the institution that made the file, and vote for it; it comes with the last vote."""
    proposer, request = ActingInstitution(folder, node), _read(file)
    if request.chain_id != proposer.chain_id:
        fail(f"{file}: asks for the network of genesis {request.chain_id.hex()}, not for this one")
    show(proposer.propose(request.admission, in_blocks), as_json=as_json)


def propose_removal(
    institution: Annotated[str, typer.Argument(help="The institution's id.")],
    in_blocks: InBlocksOption = 1_000,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Propose that an institution is gone for good, and vote for it; have its replicas removed before."""
    change = Removal(institution=read_identifier(institution, "INSTITUTION"))
    show(ActingInstitution(folder, node).propose(change, in_blocks), as_json=as_json)


def _read(file: Path) -> AdmissionRequest:
    if file.stat().st_size > FILE_BYTES_MAX:
        fail(f"{file}: more than {FILE_BYTES_MAX} bytes; this is no request")
    try:
        return decode_request(file.read_bytes())
    except ProofRefused as error:
        return fail(f"{file}: {error}")


def _describe(request: AdmissionRequest) -> dict[str, object]:
    admission = request.admission
    return {
        "institution": admission.institution.hex(),
        "kind": admission.kind,
        "name": admission.name,
        "public_key": admission.public_key.hex(),
        "gateway": admission.gateway_url,
        "genesis": request.chain_id.hex(),
    }
