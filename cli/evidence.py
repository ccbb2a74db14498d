"""`chartchain evidence`: fetch proofs while a network runs, verify them with no network at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import console, fail, print_json, show
from cli.session import DEFAULT_FOLDER, AccountOption, JsonOption, NetworkOption, NodeOption, with_client
from contracts.grants import pairs
from ledger.errors import ProofRefused
from ledger.proofs import PROOF_BYTES_MAX, ProvedReceipt, ProvedState, decode_proof, verify_proof

evidence_app = typer.Typer(help="Proofs: fetch them, verify them offline.", no_args_is_help=True)

OutOption = Annotated[Path, typer.Option("--out", dir_okay=False, help="The file to write.")]


@evidence_app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A receipt or state proof.")],
    genesis: Annotated[str, typer.Option(help="The genesis digest that you trust: 64 hexadecimal digits.")],
    as_json: JsonOption = False,
) -> None:
    """Verify a proof file; needs no node, no network and no trust in who wrote the file."""
    try:
        digest = bytes.fromhex(genesis)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise typer.BadParameter("64 hexadecimal digits expected", param_hint="--genesis")
    if file.stat().st_size > PROOF_BYTES_MAX:
        fail(f"{file}: more than {PROOF_BYTES_MAX} bytes; this is not a proof file")
    try:
        proved = verify_proof(decode_proof(file.read_bytes()), digest)
    except ProofRefused as error:
        fail(f"{file}: does not verify: {error}")
    grants = _describe_grants(proved) if isinstance(proved, ProvedState) else ()
    if as_json:
        print_json({"verified": True, "proved": _to_json(proved), "grants": grants})
        return
    console.print("[green]verified[/]")
    console.print(proved.describe(), markup=False)
    for line in grants:
        console.print(f"grants       {line}", markup=False)


def _to_json(proved: ProvedReceipt | ProvedState) -> dict[str, object]:
    """What a proof proves, for programs."""
    header = proved.block.header
    block: dict[str, object] = {
        "network": proved.block.genesis.network,
        "height": header.height,
        "epoch": header.epoch,
        "time_ms": header.time_ms,
        "certified_by_replicas": list(proved.block.signers),
        "recovered_above_heights": list(proved.block.recoveries),
    }
    if isinstance(proved, ProvedState):
        return block | {
            "state_key": proved.state_key.hex(),
            "row": None if proved.row is None else proved.row.hex(),
            "state_root": header.state_root.hex(),
        }
    body = proved.transaction.body
    return block | {
        "transaction": proved.transaction.transaction_id.hex(),
        "sender_key": body.sender.hex(),
        "calls": [f"{call.contract}.{call.method}" for call in body.calls],
        "result": proved.receipt.code,
    }


def _describe_grants(proved: ProvedState) -> tuple[str, ...]:
    """What a row of grants says about every height up to the proof's, in words; nothing for other rows."""
    if not proved.state_key.startswith(pairs.prefix):
        return ()
    if proved.row is None:
        return (f"none was ever given up to height {proved.block.header.height}",)
    return tuple(
        f"{entry.grant.hex()} from height {entry.from_height}"
        + (f" until revoked at height {entry.closed_height}" if entry.closed_height else ", not revoked")
        for entry in pairs.decode_row(proved.row).entries
    )


@evidence_app.command("receipt")
def receipt(
    transaction: Annotated[str, typer.Argument(help="The transaction's id.")],
    out: OutOption,
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a transaction's receipt with its proof to a file."""
    data = with_client(folder, node, account, lambda client: client.get_receipt_proof(transaction))
    out.write_bytes(data)
    show({"file": str(out), "bytes": len(data)}, as_json=as_json)


@evidence_app.command("grants")
def grants(
    alias: Annotated[str, typer.Argument(help="Whose folder.")],
    institution: Annotated[str, typer.Option(help="The grantee's institution.")],
    out: OutOption,
    member: Annotated[
        str, typer.Option(help="The one member; the institution as a whole if not given.")
    ] = "",
    folder: NetworkOption = DEFAULT_FOLDER,
    node: NodeOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the proof of all grants of a folder to one grantee, or of there being none, to a file."""
    data = with_client(
        folder,
        node,
        account,
        lambda client: client.get_grant_proof(alias, institution=institution, member=member or None),
    )
    out.write_bytes(data)
    show({"file": str(out), "bytes": len(data)}, as_json=as_json)
