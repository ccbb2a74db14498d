"""What may be stored: bounds that are checked before the first byte of a batch is written."""

from __future__ import annotations

from collections.abc import Sequence

from vault.envelope import IDENTIFIER_BYTES
from vault.errors import ContentRefused, VersionRefused
from vault.settings import VaultSettings
from vault.versions import TEXT_CHARACTERS_MAX, NewVersion


def check_batch(versions: Sequence[NewVersion], settings: VaultSettings) -> None:
    """Return when all of `versions` may be stored at once, as far as their own fields tell.

    Raises ContentRefused or VersionRefused.
    """
    if len(versions) > settings.batch_records_max:
        raise ContentRefused(
            f"{len(versions)} records at once found, at most {settings.batch_records_max} allowed"
        )
    size = sum(len(new.content) for new in versions)
    if size > settings.batch_bytes_max:
        raise ContentRefused(f"{size} bytes at once found, at most {settings.batch_bytes_max} allowed")
    for new in versions:
        if len(new.content) > settings.content_bytes_max:
            raise ContentRefused(
                f"content of {len(new.content)} bytes found, at most {settings.content_bytes_max} allowed"
            )
        identifiers = (new.alias, new.alias if new.record is None else new.record)
        if any(len(identifier) != IDENTIFIER_BYTES for identifier in identifiers):
            raise ContentRefused(f"alias and record of {IDENTIFIER_BYTES} bytes expected")
        for text in (new.record_class, new.media_type, new.source, new.title):
            if len(text) > TEXT_CHARACTERS_MAX:
                raise ContentRefused(
                    f"text of {len(text)} characters found, at most {TEXT_CHARACTERS_MAX} allowed"
                )
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ContentRefused("half a character found in a text, whole ones expected")
    named = [(new.record, new.version) for new in versions if new.record is not None]
    if len(set(named)) != len(named):
        raise VersionRefused("one version of a record found twice in one batch: store each once")
