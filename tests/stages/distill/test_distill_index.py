"""Duplicates of a distillation in every normal form: among its drafts, in earlier datasets, and in a later arrival."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.normal_forms import fold_exact
from rewarm.stages.data.split import has_folded, read_index
from rewarm.stages.distill.filters import DUPLICATE, KEEP, KNOWN, Drafts, decide
from rewarm.stages.distill.run import settle, shard_name
from rewarm.stages.distill.settings import DistillSettings
from rewarm.stages.distill.writer import DRAFT_SCHEMA, read_drafts

TEXTS = [
    "A cafe\u0301 by the sea &amp; more.",
    "Plain words of one line.",
    "Soft\u00adhyphens stay.",
    "The last of them.",
]


def write_drafts(staging: Folder, texts: list[str]) -> Drafts:
    """Write drafts in shards of two, and read their figures."""
    drafts = Drafts.none()
    staging.path.mkdir(exist_ok=True)
    for number in range(len(texts) // 2):
        rows = [
            {
                "doc_id": document_id(text),
                "folded_id": document_id(fold_exact(text)),
                "text": text,
                "num_bytes": len(text.encode()),
                "tokens": 9,
                "nats": 1.0,
                "ended": True,
                "reason": None,
                "detail": None,
            }
            for text in texts[2 * number : 2 * number + 2]
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=DRAFT_SCHEMA), staging.local(shard_name(number)))
        drafts += read_drafts(staging, number)
    return drafts


def ids_of(*texts: str) -> np.ndarray:
    return np.sort(np.array([bytes.fromhex(document_id(text)) for text in texts], "S16"))


def test_the_index_holds_the_folded_ids_as_well(tmp_path: Path) -> None:
    staging, out = Folder(tmp_path / "staging"), Folder(tmp_path / "out")
    drafts = write_drafts(staging, TEXTS)
    settings = DistillSettings.model_validate({"shard_documents": 2, "min_tokens": 1})
    decision = decide(drafts, [], 0.0, 36)
    assert decision
    outcome = settle(drafts, decision, 2, staging, out, out / "index", settings, 0.25)
    assert outcome.documents + outcome.validation_documents == 4
    found = read_index(out / "index")
    assert found.tolist() == ids_of(*TEXTS, "A caf\u00e9 by the sea & more.", "Softhyphens stay.").tolist()
    assert has_folded(out / "index")


def test_drafts_that_differ_only_in_their_normal_form_are_duplicates(tmp_path: Path) -> None:
    texts = [*TEXTS, "A caf\u00e9 by the sea & more.", "Plain words of &#111;ne line."]
    decision = decide(write_drafts(Folder(tmp_path), texts), [], 0.0, 36)
    assert decision and decision.fates.tolist() == [*[KEEP] * 4, *[DUPLICATE] * 2]


def test_a_draft_of_an_earlier_dataset_is_known_in_any_normal_form_and_by_an_index_without_them(tmp_path: Path) -> None:
    drafts = write_drafts(Folder(tmp_path), TEXTS)
    folded = ids_of("Softhyphens stay.", "Plain words of one line.")
    raw = ids_of(TEXTS[0])  # as earlier versions wrote it
    decision = decide(drafts, [folded, raw], 0.0, 9)
    assert decision and decision.fates.tolist() == [KNOWN, KNOWN, KNOWN, KEEP]
