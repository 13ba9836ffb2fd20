"""DeepSpeed's C++ operators: where they lie, how they are built once, how a worker loads them without compiling.

DeepSpeed compiles an operator when it is first used (about half a minute on two cores). A training run should not pay
for that, and must not hang on it: torch guards a build by a file called ``lock`` and waits for ever on one that a
killed build has left behind. So the operators are built once, when rewarm is installed:

    python -m rewarm.stages.core.operators              # what CPU training needs: all-reduce through shared memory
    python -m rewarm.stages.core.operators --offload    # and Adam on the CPU, for the optimizer's offload

A worker calls ``load()`` before ``deepspeed.init_distributed``: the library is opened as it lies, with no compiler, no
ninja and no lock. Everything is done under a lock of the operating system (``flock``), which ends with its holder, so
that torch's file can be told for stale.
"""

import argparse
import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from rewarm.stages.core.errors import StageError, UsageError

SHARED_MEMORY = "ShareMemCommBuilder"  # DeepSpeed's names of the builders; needed by every CPU run
CPU_ADAM = "CPUAdamBuilder"  # needed where the optimizer is offloaded to the CPU

_COMPLETE = "rewarm-complete"  # written into an operator's folder when its build has ended well; holds versions()
_COMPILE = """
import sys
from deepspeed.accelerator import get_accelerator
get_accelerator().create_op_builder(sys.argv[1]).load(verbose=True)
"""


# -- where they lie ----------------------------------------------------------------------------------------------


def extensions_dir() -> Path:
    """The folder that holds the built operators and lasts as long as the installation.

    ``TORCH_EXTENSIONS_DIR`` where it is set; else in the virtual environment; else, where that cannot be written,
    in ``~/.cache/rewarm``. The last two are kept apart by the versions an operator is bound to, so that a change of
    torch never loads a library built against another one.
    """
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    installed = Path(sys.prefix) / "share" / "rewarm"
    root = installed if _writable(installed) else Path("~/.cache/rewarm").expanduser()
    return root / "torch_extensions" / versions()


def versions() -> str:
    """All that a built operator is bound to: Python, torch, DeepSpeed and the accelerator, as a folder's name."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    packages = [f"{name}{importlib.metadata.version(name)}" for name in ("torch", "deepspeed")]
    return "-".join([python, *packages, accelerator()])


def accelerator() -> str:
    """What this machine trains on, by DeepSpeed's name: ``DS_ACCELERATOR`` where set, else ``cuda`` or ``cpu``."""
    chosen = os.environ.get("DS_ACCELERATOR")
    if chosen:
        return chosen
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def environment() -> dict[str, str]:
    """The variables a training worker needs before it imports deepspeed.

    They describe the machine they are asked on, so a worker asks for its own (``os.environ.update(environment())``)
    rather than being sent the driver's: the head of a cluster may have no GPU where the workers do.
    """
    scripts = sysconfig.get_path("scripts")  # ninja lies beside the interpreter, also where no venv is activated
    path = os.environ.get("PATH", os.defpath)
    if scripts not in path.split(os.pathsep):
        path = os.pathsep.join([scripts, path])
    return {"TORCH_EXTENSIONS_DIR": str(extensions_dir()), "DS_ACCELERATOR": accelerator(), "PATH": path}


def needed(offload: bool = False) -> tuple[str, ...]:
    """The builders a run on this machine uses; ``offload`` says that the optimizer is kept on the CPU.

    None on a GPU without offload: NCCL communicates there, and the optimizer is torch's own.
    """
    on_cpu = accelerator() == "cpu" and sys.platform == "linux"  # elsewhere DeepSpeed falls back to gloo by itself
    return ((SHARED_MEMORY,) if on_cpu else ()) + ((CPU_ADAM,) if offload else ())


def built(offload: bool = False) -> bool:
    """Whether every operator this machine needs is built and whole."""
    return all(_library(_operator_name(builder)) is not None for builder in needed(offload))


# -- building ----------------------------------------------------------------------------------------------------


def build(offload: bool = False, say: Callable[[str], None] = print) -> None:
    """Build what is needed and not built yet; a second call, or one in another process meanwhile, builds nothing.

    Raises:
        UsageError: there is no compiler, no ninja or no Python headers, or the folder cannot be written.
        StageError: the compiler failed; the message ends with what it said.
    """
    missing = [builder for builder in needed(offload) if _library(_operator_name(builder)) is None]
    if not missing:
        say(f"DeepSpeed's operators are in place ({extensions_dir() if needed(offload) else 'none needed here'})")
        return
    check_tools()
    with _alone(say) as lock:
        for builder in missing:
            name = _operator_name(builder)
            _discard_torn(name)
            if _library(name) is None:  # else another process built it while this one waited
                say(f"building DeepSpeed's operator {name} (once, about a minute) in {extensions_dir()}")
                _compile(builder, lock)
                (extensions_dir() / name / _COMPLETE).write_text(versions())
                say(f"built {name}")


def check_tools() -> None:
    """Refuse early, in words, where an operator cannot be compiled; raises UsageError."""
    compiler = compiler_name()
    if shutil.which(compiler) is None:
        raise UsageError(
            f"no C++ compiler ({compiler!r} is not on PATH): DeepSpeed compiles its operators with one. "
            "Install it (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++), or set CXX to yours"
        )
    if shutil.which("ninja", path=environment()["PATH"]) is None:
        raise UsageError("ninja is not installed: DeepSpeed builds its operators with it. Run: pip install ninja")
    header = headers()
    if not header.exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UsageError(
            f"the headers of Python are missing ({header}): DeepSpeed's operators are compiled against them. "
            f"Install them (Debian, Ubuntu: apt-get install python{version}-dev; Fedora: dnf install python3-devel)"
        )


def compiler_name() -> str:
    """The C++ compiler torch will call: ``CXX``, else ``c++``."""
    return os.environ.get("CXX", "c++")


def headers() -> Path:
    """The header of Python that every operator includes."""
    return Path(sysconfig.get_path("include")) / "Python.h"


def _compile(builder: str, lock: int) -> None:
    """Compile one operator in a process of its own, so that neither its output nor its environment is ours.

    The process holds the lock too: if this one is killed, the next waits until that one has stopped writing.
    """
    command = [sys.executable, "-c", _COMPILE, builder]
    variables = os.environ | environment()
    done = subprocess.run(command, env=variables, pass_fds=[lock], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise StageError(
            f"DeepSpeed's {builder} did not build in {extensions_dir()} with {compiler_name()} "
            f"(exit {done.returncode}); it said:\n{said}"
        )


def _discard_torn(name: str) -> None:
    """Remove what a killed build left, or one for other versions. Only under the lock: then torch's lock is stale.

    The whole folder goes when the build had not ended: an orphaned ninja may still be writing into it.
    """
    folder = extensions_dir() / name
    (folder / "lock").unlink(missing_ok=True)
    if folder.exists() and _library(name) is None:
        shutil.rmtree(folder)


@contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[int]:
    """Hold the folder's lock, and give its descriptor; it ends with the processes that hold it, however they end."""
    folder = extensions_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "rewarm.lock").open("w")
    except OSError as error:
        raise UsageError(
            f"{folder}: DeepSpeed's operators cannot be kept here ({error.strerror}). "
            "Set TORCH_EXTENSIONS_DIR to a folder that can be written and lasts"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is building DeepSpeed's operators")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


# -- loading -----------------------------------------------------------------------------------------------------


def load(offload: bool = False, say: Callable[[str], None] = print) -> list[str]:
    """Make this process ready for DeepSpeed: set its environment, open the operators, hand them to DeepSpeed.

    For a training worker, before ``deepspeed.init_distributed``, and before deepspeed is first imported. Builds what
    is missing, so a node that was never prepared pays once. Returns the names of the operators it opened.
    """
    os.environ.update(environment())
    if not built(offload):
        build(offload, say)
    from deepspeed.ops.op_builder.builder import OpBuilder

    names = [_operator_name(builder) for builder in needed(offload)]
    for name in names:
        if name not in OpBuilder._loaded_ops:
            OpBuilder._loaded_ops[name] = _open(name)
    return names


def _open(name: str) -> ModuleType:
    import torch  # its libraries must be in the process before the operator's are  # noqa: F401

    library = _library(name)
    assert library is not None, name
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None and spec.loader is not None, library
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _library(name: str) -> Path | None:
    """The operator's shared library, if its build ended well and was for what is installed now."""
    library, stamp = (extensions_dir() / name / file for file in (f"{name}.so", _COMPLETE))
    return library if library.exists() and stamp.exists() and stamp.read_text() == versions() else None


def _operator_name(builder: str) -> str:
    """DeepSpeed's name of the operator, which is also its folder's and its library's."""
    return {SHARED_MEMORY: "deepspeed_shm_comm", CPU_ADAM: "cpu_adam"}[builder]


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the operators from the command line; 0, 1 (the build failed) or 2 (something is missing)."""
    parser = argparse.ArgumentParser(
        prog="python -m rewarm.stages.core.operators", description="Build DeepSpeed's operators, once."
    )
    parser.add_argument("--offload", action="store_true", help="also Adam on the CPU, for the optimizer's offload")
    try:
        build(parser.parse_args(arguments).offload)
    except (UsageError, StageError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
