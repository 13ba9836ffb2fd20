"""Checks of ``rewarm doctor``: what this machine provides, what an update needs, and how to install what is missing.

Nothing is changed: Ray is started (or reached) in a process of its own and stopped again.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.escaping import message
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import RECORD, Workspace
from rewarm.pipeline.terminal import SafeConsole
from rewarm.pipeline.update.disk_space import like_the_last
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.pipeline.update.room import check_room, workspace_settings
from rewarm.stages.core import operators
from rewarm.stages.core.errors import RewarmError, UsageError

GIB = 1 << 30
PINNED = ("ray", "torch", "transformers", "deepspeed", "pyarrow", "lm-eval", "tokenizers", "fastokens")
DEMO = ("scipy", "pandas", "sympy", "networkx", "nltk")
_DESCRIBE_RAY = "import sys; from rewarm.pipeline.doctor import describe_ray; print(describe_ray(sys.argv[1]))"
RAY_SECONDS = 90.0  # Ray itself gives up on an address that does not answer after about a minute


@dataclass(frozen=True)
class Check:
    """One check; ``ok`` is None if the item is missing (or small) but not required."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def examine(workspace: Path | None = None) -> list[Check]:
    """Check everything that an update needs; disk checks are for ``workspace`` (by default the current folder)."""
    looks: list[Callable[[], Iterable[Check]]] = [
        lambda: [python()],
        lambda: [compiler(), headers(), ninja(), built_operators()],
        lambda: versions(PINNED),
        lambda: [fast_tokenizer()],
        lambda: [gpus()],
        lambda: [cores(), memory(), disk(workspace or Path()), shared_memory()],
        lambda: [ray_cluster()],
        lambda: room(workspace) if workspace else [],
        lambda: demo_packages(DEMO),
    ]
    return [check for look in looks for check in look()]


def missing(checks: Sequence[Check]) -> list[Check]:
    """Return the failed checks that prevent an update."""
    return [check for check in checks if check.ok is False]


# -- the installation --------------------------------------------------------------------------------------------


def python() -> Check:
    """The interpreter's version against what rewarm and its pinned packages support."""
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Check("Python", fits, f"{version} ({sys.prefix})", "" if fits else "install Python 3.11 or 3.12")


def compiler() -> Check:
    """A C++ compiler, for DeepSpeed's operators; not needed once they are built."""
    name = operators.compiler_name()
    path = shutil.which(name)
    if path is None:
        advice = "Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; or set CXX"
        return Check("C++ compiler", _needed_to_build(), f"no {name} on PATH", advice)
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return Check("C++ compiler", True, (said.splitlines() or [path])[0])


def headers() -> Check:
    """Python's headers, against which the operators are compiled."""
    header = operators.headers()
    advice = f"Debian, Ubuntu: apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev"
    there = header.exists()
    return Check(
        "Python headers", there or _needed_to_build(), str(header) if there else f"no {header}", "" if there else advice
    )


def ninja() -> Check:
    """The build tool DeepSpeed calls."""
    path = shutil.which("ninja", path=operators.environment()["PATH"])
    return Check(
        "ninja", True if path else _needed_to_build(), path or "not found", "" if path else "pip install ninja"
    )


def built_operators() -> Check:
    """DeepSpeed's operators, built once."""
    if not operators.needed():
        return Check("DeepSpeed operators", True, f"none needed on {operators.accelerator()}")
    there, folder = operators.built(), operators.extensions_dir()
    advice = "python -m rewarm.stages.core.operators (once; else the first training builds them)"
    return Check(
        "DeepSpeed operators", there, f"{'built in' if there else 'not built in'} {folder}", "" if there else advice
    )


def _needed_to_build() -> bool | None:
    """Return the verdict on a missing build tool: a failure unless the operators are already built."""
    return None if operators.built() else False


def versions(names: Iterable[str], distribution: str = "rewarm") -> list[Check]:
    """Installed versions against the pins in the installed package's own metadata."""
    pins = _pins(distribution)
    return [_version(name, pins.get(_canonical(name))) for name in names]


def _version(name: str, pin: Requirement | None) -> Check:
    wanted = f"pip install '{pin}'" if pin else f"pip install {name}"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", wanted)
    if pin is None:
        return Check(name, True, f"{version} (rewarm is not installed as a package: no pin to compare with)")
    fits = pin.specifier.contains(version, prereleases=True)
    return Check(name, fits, version if fits else f"{version}, tested with {pin.specifier}", "" if fits else wanted)


def _pins(distribution: str) -> dict[str, Requirement]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return {}
    return {_canonical(requirement.name): requirement for requirement in map(Requirement, lines)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def fast_tokenizer() -> Check:
    """Whether fastokens can be imported; without it the reference tokenizer does the work."""
    try:
        import_module("fastokens")
    except ImportError as error:
        return Check("fastokens", None, f"cannot be imported: {error}", "tokenizing is slower; pip install fastokens")
    return Check("fastokens import", True, "works")


def demo_packages(names: Iterable[str]) -> list[Check]:
    """The packages whose documentation is the demo's text."""
    absent = [name for name in names if not _installed(name)]
    found = f"not installed: {', '.join(absent)}" if absent else "all installed"
    return [
        Check(
            "demo's packages",
            None if absent else True,
            found,
            "only for rewarm demo: pip install 'rewarm[demo]'" if absent else "",
        )
    ]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# -- the machine -------------------------------------------------------------------------------------------------


def gpus() -> Check:
    """CUDA devices as torch sees them; none is fine."""
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = ", ".join(f"{device.name} {device.total_memory / GIB:.0f} GiB" for device in devices)
        return Check("GPUs", True, f"{len(devices)}: {names}; bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}")
    if shutil.which("nvidia-smi") is None:
        return Check("GPUs", None, "none", "none needed for the demo: DeepSpeed trains on the CPU")
    build = torch.version.cuda
    advice = (
        "check the driver (nvidia-smi)"
        if build
        else "this torch is a CPU build: install the CUDA build of the same version"
    )
    return Check("GPUs", None, f"a driver is installed, but torch sees no device (torch's CUDA: {build})", advice)


def cores() -> Check:
    """CPU cores this process may use, within its container's limit."""
    count = min(float(len(os.sched_getaffinity(0))), cpu_limit(Path("/sys/fs/cgroup")) or float("inf"))
    enough = count >= 2
    return Check("CPU cores", enough, f"{count:g}", "" if enough else "at least 2; with one, --set train.num_workers=1")


def memory() -> Check:
    """Main memory, within the container's limit."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = min(total, memory_limit(Path("/sys/fs/cgroup")) or total) / GIB
    enough = size >= 7.5  # a machine sold with 8 GB shows a little less
    return Check(
        "memory", True if enough else None, f"{size:.1f} GiB", "" if enough else "8 GB recommended, also for the demo"
    )


def cpu_limit(cgroup: Path) -> float | None:
    """Cores a container may use, from cgroup v2 or v1 under ``cgroup``; None where there is no limit."""
    quota, _, period = (_text(cgroup / "cpu.max") or "").partition(" ")
    if not quota:
        quota, period = (
            _text(cgroup / "cpu/cpu.cfs_quota_us") or "-1",
            _text(cgroup / "cpu/cpu.cfs_period_us") or "100000",
        )
    return None if quota in ("max", "-1") else int(quota) / int(period)


def memory_limit(cgroup: Path) -> int | None:
    """Bytes a container may use, from cgroup v2 or v1 under ``cgroup``; None where there is no limit."""
    limit = _text(cgroup / "memory.max") or _text(cgroup / "memory/memory.limit_in_bytes") or "max"
    return None if limit == "max" else int(limit)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def disk(folder: Path) -> Check:
    """Free space on the filesystem of the workspace."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIB
    if (folder / RECORD).is_file():
        return room_for_another(folder)
    return Check(
        "free disk", free >= 5, f"{free:.1f} GiB at {place}", "" if free >= 5 else "the demo needs about 5 GiB"
    )


def room_for_another(folder: Path) -> Check:
    """Free space against what another update as large as the last one would need."""
    try:
        workspace = Workspace.open(str(folder))
        found = like_the_last(Lineage(workspace), recipe_of(workspace))
    except RewarmError as error:
        return Check("free disk", None, str(error), "`rewarm verify` reports what is wrong with the workspace")
    advice = "make room (`rewarm prune`), or keep fewer checkpoints (train.keep_checkpoints)"
    enough = all(one.enough for one in found)
    said = "; ".join(map(str, found))
    return Check("free disk", enough, f"an update like the last one: {said}", "" if enough else advice)


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """The size of ``/dev/shm``, where Ray keeps its objects; containers are given 64 MB unless told otherwise."""
    if not folder.exists():
        return Check(
            "shared memory", None, f"no {folder}", f"Ray keeps its objects in {tempfile.gettempdir()}, which is slower"
        )
    size = shutil.disk_usage(folder).total / GIB
    enough = size >= 1
    advice = "Ray falls back to the disk, which is slower; in a container: docker run --shm-size=2g"
    return Check("shared memory", True if enough else None, f"{folder} {size:.2f} GiB", "" if enough else advice)


# -- Ray ---------------------------------------------------------------------------------------------------------


def ray_cluster(environ: Mapping[str, str] | None = None, seconds: float = RAY_SECONDS) -> Check:
    """Start a local Ray, or reach the cluster ``RAY_ADDRESS`` names, in a process of its own, and list what it has."""
    environ = os.environ if environ is None else environ
    address = environ.get("RAY_ADDRESS", "local")
    where = "starts on this machine" if address == "local" else f"cluster at {address}"
    command = [sys.executable, "-c", _DESCRIBE_RAY, address]
    paths = [str(Path(__file__).absolute().parents[2]), environ.get("PYTHONPATH", "")]
    settings = dict(environ) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Check("Ray", False, f"{where}: no answer in {seconds:g} s", _ray_advice(address, ""))
    if done.returncode != 0:
        error = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Check("Ray", False, f"{where}: {error}", _ray_advice(address, done.stderr))
    found = f"{where}: {done.stdout.strip().splitlines()[-1]}"
    if address != "local" and environ.get("RAY_AUTH_MODE", "").lower() != "token":
        advice = "anyone who reaches this cluster can run code on it: start it with RAY_AUTH_MODE=token"
        return Check("Ray", None, f"{found}; no token authentication", advice)
    return Check("Ray", True, found)


def _ray_advice(address: str, said: str) -> str:
    token = "export RAY_AUTH_MODE=token, with the cluster's token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
    if "Authentication" in said:
        return token
    if address == "local":
        return "see /tmp/ray/session_latest/logs; ~/.ray must be writable for Ray's token, or RAY_AUTH_TOKEN set"
    return f"check that the address is right and reachable from here. With a token: {token}. Or unset RAY_ADDRESS"


def describe_ray(address: str) -> str:
    """What the Ray at ``address`` (``local`` starts one) offers, in one line."""
    import ray

    if address.startswith("http"):  # the address of ``ray job submit``
        from ray.job_submission import JobSubmissionClient

        return f"takes jobs (Ray {JobSubmissionClient(address).get_version()})"
    ray.init(address=address, include_dashboard=False if address == "local" else None, log_to_driver=False)
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        nodes = sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
    stored = resources.get("object_store_memory", 0) / GIB
    parts = [f"{resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU")]
    return ", ".join(
        [f"Ray {ray.__version__}", f"{nodes} node{'s' * (nodes != 1)}", *parts, f"{stored:.1f} GiB for objects"]
    )


def room(workspace: Path) -> list[Check]:
    """Check that the cluster has resources for the workspace's training; nothing without a workspace."""
    try:
        settings = workspace_settings(workspace)
    except RewarmError as error:
        return [
            Check("room for training", None, str(error), "`rewarm verify` reports what is wrong with the workspace")
        ]
    if settings is None:
        return []
    try:
        awaits = check_room(settings)
    except UsageError as error:
        return [Check("room for training", False, str(error))]
    where = f"{settings.num_workers} worker{'s' * (settings.num_workers != 1)}, train.device {settings.device}"
    return [Check("room for training", None if awaits else True, awaits or where)]


# -- telling -----------------------------------------------------------------------------------------------------


def print_report(checks: Sequence[Check], console: SafeConsole | None = None) -> int:
    """Print a table (plain lines when not on a terminal); 0 if nothing required is missing, else 1."""
    console = console or SafeConsole(soft_wrap=True)
    words = {True: ("ok", "green"), None: ("optional", "yellow"), False: ("missing", "red")}
    if console.is_terminal:
        table = Table("", "", "found", "what to do", box=None, pad_edge=False)
        for check in checks:
            word, colour = words[check.ok]
            table.add_row(Text(word, colour), check.name, message(check.found), check.advice)
        console.print(table, soft_wrap=False)
    else:
        for check in checks:
            advice = f"  ->  {check.advice}" if check.advice else ""
            console.print(
                f"{words[check.ok][0]:<9}{check.name}: {message(check.found)}{advice}", markup=False, highlight=False
            )
    absent = missing(checks)
    verdict = (
        f"missing: {', '.join(check.name for check in absent)}" if absent else "ready: nothing required is missing"
    )
    console.print(verdict, markup=False, highlight=False)
    return 1 if absent else 0


def as_json(checks: Sequence[Check]) -> str:
    """The checks as one JSON object: ``ready`` and the list ``checks``."""
    return json.dumps({"ready": not missing(checks), "checks": [asdict(check) for check in checks]}, indent=2)
