"""What a few texts would keep, as a plan asks it before an arrival is ingested."""

from pathlib import Path

import pytest

from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest.decontaminate import DecontaminateSettings, write_guard
from rewarm.stages.ingest.decontaminate.overlaps import Guarded, Kind, cut_sample

SETTINGS = DecontaminateSettings()
GREETING = " ".join(f"greeting{number}" for number in range(20))
HELD_OUT = " ".join(f"own{number}" for number in range(60))


def text(number: int, planted: str = "") -> str:
    words = [f"word{number}x{place}" for place in range(200)]
    return " ".join([GREETING, *words[:100], planted, *words[100:]])


def guarded(folder: Path, kind: Kind) -> list[Guarded]:
    write_guard(Folder(folder), "held out", [f"{GREETING} {HELD_OUT}"], SETTINGS)
    return [Guarded("held out", Folder(folder), kind)]


@pytest.mark.parametrize("kind", [Kind.OWN, Kind.EARLIER, Kind.TASK])
def test_a_planted_passage_goes_and_the_greeting_stays(tmp_path: Path, kind: Kind) -> None:
    texts = [text(number) for number in range(20)]
    texts[7] = text(7, " ".join(HELD_OUT.split()[10:40]))
    kept = cut_sample(texts, guarded(tmp_path, kind), SETTINGS)
    assert [number for number in range(20) if kept[number] != texts[number]] == [7]
    assert "own" not in kept[7]
    assert kept[7].startswith(GREETING)
    assert len(kept[7].split()) == len(text(7).split()) - 2 * 30


def test_a_text_that_is_little_more_than_the_passage_goes(tmp_path: Path) -> None:
    assert cut_sample([HELD_OUT, text(0)], guarded(tmp_path, Kind.OWN), SETTINGS)[0] == ""
    assert cut_sample([], guarded(tmp_path, Kind.OWN), SETTINGS) == []
