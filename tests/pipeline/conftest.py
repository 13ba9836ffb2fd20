"""The command line in this process: shared by the tests of its commands."""

from collections.abc import Callable

import pytest

from pipeline.cli import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rewarm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rewarm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run
