"""The index of a distilled dataset: a later arrival finds its documents in every normal form."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import has_folded, read_index
from rewarm.stages.distill.filters import Drafts, decide
from rewarm.stages.distill.run import settle, shard_name
from rewarm.stages.distill.settings import DistillSettings
from rewarm.stages.distill.writer import DRAFT_SCHEMA, read_drafts

TEXTS = [
    "A cafe\u0301 by the sea &amp; more.",
    "Plain words of one line.",
    "Soft\u00adhyphens stay.",
    "The last of them.",
]


def test_the_index_holds_the_folded_ids_as_well(tmp_path: Path) -> None:
    staging, out = Folder(tmp_path / "staging"), Folder(tmp_path / "out")
    drafts = Drafts.none()
    for number in range(2):
        rows = [
            {
                "doc_id": document_id(text),
                "text": text,
                "num_bytes": len(text.encode()),
                "tokens": 9,
                "nats": 1.0,
                "ended": True,
                "reason": None,
                "detail": None,
            }
            for text in TEXTS[2 * number : 2 * number + 2]
        ]
        staging.path.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=DRAFT_SCHEMA), staging.local(shard_name(number)))
        drafts += read_drafts(staging, number)
    settings = DistillSettings.model_validate({"shard_documents": 2, "min_tokens": 1})
    decision = decide(drafts, [], 0.0, 36)
    assert decision
    outcome = settle(drafts, decision, 2, staging, out, out / "index", settings, 0.25)
    assert outcome.documents + outcome.validation_documents == 4
    found = read_index(out / "index")
    folded = ["A caf\u00e9 by the sea & more.", "Softhyphens stay."]
    assert sorted(found.tolist()) == sorted(bytes.fromhex(document_id(text)) for text in [*TEXTS, *folded])
    assert has_folded(out / "index") and found.tolist() == sorted(found.tolist())
