"""DeepSpeed's C++ operators: location, one-time build, and loading in workers without a compiler.

DeepSpeed compiles an operator on first use (about half a minute on two cores). A training run should not pay for that,
and must not hang because of it: torch guards a build with a file called ``lock`` and waits forever for one that a
killed build has left behind. Therefore the operators are built once, when rewarm is installed:

    python -m rewarm.stages.core.operators              # for CPU training: all-reduce through shared memory
    python -m rewarm.stages.core.operators --offload    # and Adam on the CPU, for the optimizer's offload

A worker calls ``load()`` before ``deepspeed.init_distributed``, which opens the existing library without compiler,
ninja or lock. Builds hold a lock of the operating system (``flock``), which ends with its holder, so that a stale lock
file of torch can be recognised.
"""

import argparse
import fcntl
import importlib.metadata
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from rewarm.stages.core.errors import StageError, UsageError

SHARED_MEMORY = "ShareMemCommBuilder"  # DeepSpeed's name of the builder; needed by every CPU run
CPU_ADAM = "CPUAdamBuilder"  # needed if the optimizer is offloaded to the CPU

_COMPLETE = "rewarm-complete"  # written into an operator's folder after a successful build; contains versions()
_COMPILE = """
import sys
from deepspeed.accelerator import get_accelerator
get_accelerator().create_op_builder(sys.argv[1]).load(verbose=True)
"""


# -- location ----------------------------------------------------------------------------------------------------


def extensions_dir() -> Path:
    """Return the folder of the built operators, which lasts as long as the installation.

    ``TORCH_EXTENSIONS_DIR`` if it is set; else in the virtual environment; else, if that is not writable, in
    ``~/.cache/rewarm``. The last two are separated by the versions that an operator depends on, so that after a change
    of torch a library built against another version is never loaded.
    """
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    installed = Path(sys.prefix) / "share" / "rewarm"
    root = installed if _writable(installed) else Path("~/.cache/rewarm").expanduser()
    return root / "torch_extensions" / versions()


def versions() -> str:
    """Return the versions that a built operator depends on (Python, torch, DeepSpeed, accelerator) as a folder name."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    packages = [f"{name}{importlib.metadata.version(name)}" for name in ("torch", "deepspeed")]
    return "-".join([python, *packages, accelerator()])


def accelerator() -> str:
    """Return DeepSpeed's name of this machine's accelerator: ``DS_ACCELERATOR`` if set, else ``cuda`` or ``cpu``."""
    chosen = os.environ.get("DS_ACCELERATOR")
    if chosen:
        return chosen
    if built_for_cpus():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def built_for_cpus() -> bool:
    """Return whether the installed torch has neither CUDA nor ROCm, without importing it (1.4 s of CPU)."""
    found = importlib.util.find_spec("torch")
    file = Path(found.origin).with_name("version.py") if found and found.origin else None
    if file is None or not file.is_file():
        return False
    built = runpy.run_path(str(file))
    return "cuda" in built and not built["cuda"] and not built.get("hip")


def environment() -> dict[str, str]:
    """Return the variables that a training worker needs before it imports deepspeed.

    They describe the current machine, so each worker calls this itself (``os.environ.update(environment())``) instead
    of receiving the driver's: the head of a cluster may have no GPU although the workers do.
    """
    scripts = sysconfig.get_path("scripts")  # ninja is next to the interpreter, even if no venv is activated
    path = os.environ.get("PATH", os.defpath)
    if scripts not in path.split(os.pathsep):
        path = os.pathsep.join([scripts, path])
    return {"TORCH_EXTENSIONS_DIR": str(extensions_dir()), "DS_ACCELERATOR": accelerator(), "PATH": path}


def needed(offload: bool = False) -> tuple[str, ...]:
    """Return the builders that a run on this machine uses; ``offload``: the optimizer is kept on the CPU.

    Empty on a GPU without offload, which uses NCCL and torch's optimizer.
    """
    on_cpu = accelerator() == "cpu" and sys.platform == "linux"  # otherwise DeepSpeed falls back to gloo by itself
    return ((SHARED_MEMORY,) if on_cpu else ()) + ((CPU_ADAM,) if offload else ())


def built(offload: bool = False) -> bool:
    """Return whether every operator that this machine needs is completely built."""
    return all(_library(_operator_name(builder)) is not None for builder in needed(offload))


# -- building ----------------------------------------------------------------------------------------------------


def build(offload: bool = False, say: Callable[[str], None] = print) -> None:
    """Build the missing operators; a second call, or a concurrent one in another process, builds nothing.

    Raises:
        UsageError: compiler, ninja or Python headers are missing, or the folder is not writable.
        StageError: the compiler failed; the message ends with its output.
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
            if _library(name) is None:  # otherwise another process built it while this one waited
                say(f"building DeepSpeed's operator {name} (once, about a minute) in {extensions_dir()}")
                _compile(builder, lock)
                (extensions_dir() / name / _COMPLETE).write_text(versions())
                say(f"built {name}")


def check_tools() -> None:
    """Raise ``UsageError`` with instructions if an operator cannot be compiled."""
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
    """Return the C++ compiler that torch will call: ``CXX``, else ``c++``."""
    return os.environ.get("CXX", "c++")


def headers() -> Path:
    """Return the path of the Python header that every operator includes."""
    return Path(sysconfig.get_path("include")) / "Python.h"


def _compile(builder: str, lock: int) -> None:
    """Compile one operator in a separate process, isolated from this one's output and environment.

    The process also holds the lock: if this one is killed, the next one waits until the compiler has stopped writing.
    """
    command = [sys.executable, "-c", _COMPILE, builder]
    variables = os.environ | environment()
    done = subprocess.run(command, env=variables, pass_fds=[lock], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise StageError(
            f"building DeepSpeed's {builder} in {extensions_dir()} with {compiler_name()} failed "
            f"(exit {done.returncode}); its output:\n{said}"
        )


def _discard_torn(name: str) -> None:
    """Remove the remains of a killed build, or a build for other versions; requires the lock: torch's is then stale.

    An unfinished build is removed with its whole folder: an orphaned ninja may still be writing into it.
    """
    folder = extensions_dir() / name
    (folder / "lock").unlink(missing_ok=True)
    if folder.exists() and _library(name) is None:
        shutil.rmtree(folder)


@contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[int]:
    """Hold the folder's lock and yield its descriptor; the lock ends with the processes that hold it."""
    folder = extensions_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "rewarm.lock").open("w")
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot store DeepSpeed's operators here ({error.strerror}). "
            "Set TORCH_EXTENSIONS_DIR to a permanent, writable folder"
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
    """Prepare this process for DeepSpeed: set its environment, open the operators and pass them to DeepSpeed.

    Call it in a training worker before deepspeed is first imported. Builds missing operators, so an unprepared node
    pays once. Returns the names of the opened operators.
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
    """Return the operator's shared library if its build succeeded and matches the installed versions, else None."""
    library, stamp = (extensions_dir() / name / file for file in (f"{name}.so", _COMPLETE))
    return library if library.exists() and stamp.exists() and stamp.read_text() == versions() else None


def _operator_name(builder: str) -> str:
    """Return DeepSpeed's name of the operator, which is also the name of its folder and library."""
    return {SHARED_MEMORY: "deepspeed_shm_comm", CPU_ADAM: "cpu_adam"}[builder]


def _writable(folder: Path) -> bool:
    """Return whether the folder, or its nearest existing parent, is writable."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the operators from the command line; return 0, 1 (the build failed) or 2 (a requirement is missing)."""
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
