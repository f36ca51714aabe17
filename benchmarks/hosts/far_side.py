"""What runs on the other machine: its source is sent as `python -c SOURCE ACTION ...`, before edgedet is there.

Standard library only, valid in Python 3.6, so that an interpreter that is too old can say so. Files are kept below
~/.cache/edgedet/hosts, each in a folder named by its SHA-256; ``rm -r`` of that folder undoes all of it.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

OLDEST = (3, 8)
QUIET_S = 20.0  # the near side writes a byte every few seconds; without one for so long, the link is gone
END_S = 3.0  # for programs to end by themselves
KEEP_S = 30 * 86400.0  # unpacked packages of other versions that were not used for so long are removed
RUN, LOCK = "run-", "lock"  # each run's folder, and the file in it that its process locks
ENGINE, BUILD_REPORT = "engine-", "build.json"  # the folder of each engine, and its report
YOUNG_S = 60.0  # a folder this young may not be locked yet
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
ROOT = os.path.join(CACHE, "edgedet", "hosts")
PACKAGES = os.path.join(ROOT, f"packages-{platform.machine()}-{sys.version_info[0]}.{sys.version_info[1]}")


def stop(message):
    """End with one line."""
    sys.stderr.write(message + "\n")
    sys.exit(2)


def place_of(sha256, name):
    """Return where a file is kept."""
    return os.path.join(ROOT, "files", sha256, name)


def probe(request):
    """Print what is here: the Python, room, which files are kept, which modules can be imported."""
    if sys.version_info < OLDEST:
        stop(
            f"its Python is {platform.python_version()}, and edgedet needs {OLDEST[0]}.{OLDEST[1]} or newer: "
            "name another one in hosts.yaml, as python: /path"
        )
    request = json.loads(request)
    os.makedirs(ROOT, exist_ok=True)
    sys.path.insert(0, PACKAGES)
    print(
        json.dumps(
            {
                "python": list(sys.version_info[:3]),
                "machine": platform.machine(),
                "free_bytes": shutil.disk_usage(ROOT).free,
                "files": [[sha, name] for sha, name in request["files"] if os.path.isfile(place_of(sha, name))],
                "modules": [name for name in request["modules"] if importlib.util.find_spec(name) is not None],
            }
        )
    )


def receive(sha256, name):
    """Keep standard input as a file, if its hash is right."""
    path = place_of(sha256, name)
    part = f"{path}.{os.getpid()}.part"
    digest = hashlib.sha256()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(part, "wb") as file:
                while True:
                    chunk = sys.stdin.buffer.read(1 << 18)
                    if not chunk:
                        break
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                stop(f"{name} arrived with another SHA-256 than it was sent with: try again")
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.remove(part)
    except OSError as error:
        stop(f"{name} cannot be kept in {ROOT}: {error.strerror}")


def unpack(sha256, name):
    """Unpack the package, once; print its folder."""
    folder = os.path.join(ROOT, "edgedet-" + sha256[:16])
    part = f"{folder}.{os.getpid()}.part"
    try:
        if not os.path.isdir(folder):
            with zipfile.ZipFile(place_of(sha256, name)) as archive:
                archive.extractall(part)
            try:
                os.rename(part, folder)
            except OSError:  # another one was faster
                if not os.path.isdir(folder):
                    raise
        os.utime(folder)
        for other in os.listdir(ROOT):
            path = os.path.join(ROOT, other)
            if other.startswith(("edgedet-", ENGINE)) and time.time() - os.stat(path).st_mtime > KEEP_S:
                shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        stop(f"the package cannot be unpacked in {ROOT}: {error.strerror}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(folder)


def install(*packages):
    """Install what is missing beside edgedet into a folder of its own, by this machine's pip."""
    if importlib.util.find_spec("pip") is None:
        stop(f"it has no {' or '.join(packages)}, and no pip to install it: see docs/boards.md")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", PACKAGES]
    done = subprocess.run(command + list(packages), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        stop(f"pip could not install {', '.join(packages)}: {lines[-1] if lines else 'it gives no reason'}")


def prepare_build(package, files):
    """Print the folder of an engine on this board, with links to what it is built from, and its report if it is there.

    files: JSON, [SHA-256, name] of each file, the ONNX file first.
    The folder's name is a hash of the files, edgedet, GPU, TensorRT and system, which an engine belongs to.
    """
    sys.path[:0] = [package, PACKAGES]
    from edgedet import __version__
    from edgedet.board.build import describe_board
    from edgedet.engines.tensorrt.board import import_tensorrt
    from edgedet.errors import EdgeDetError

    try:
        board = describe_board(import_tensorrt("edgedet bench --build"))
    except EdgeDetError as error:
        stop(str(error))
    files = json.loads(files)
    belongs_to = json.dumps([__version__, files, board.identity.to_dict()], sort_keys=True)
    folder = os.path.join(ROOT, ENGINE + hashlib.sha256(belongs_to.encode()).hexdigest()[:16])
    os.makedirs(folder, exist_ok=True)
    os.utime(folder)
    for sha256, name in files:
        link = os.path.join(folder, name)
        if not os.path.lexists(link):
            os.symlink(place_of(sha256, name), link)
    engine = os.path.join(folder, os.path.splitext(files[0][1])[0] + ".engine")
    path = os.path.join(folder, BUILD_REPORT)
    report = None
    if os.path.isfile(engine) and os.path.isfile(path):  # the report is written last
        with open(path) as file:
            report = json.load(file)
    elif os.path.isfile(path):
        os.remove(path)
    print(json.dumps({"onnx": os.path.join(folder, files[0][1]), "engine": engine, "path": path, "report": report}))


def build(package, result, *arguments):
    """Run `edgedet build` as ``run`` does, and pass on the table that it prints."""
    return run(package, result, *arguments, table=sys.stderr)


def run(package, result, *arguments, table=subprocess.DEVNULL):
    """Run `python -m edgedet ARGUMENTS`, print the file ``result`` that it writes, and return its exit code.

    It ends, with all that it has started, when standard input ends or is silent: the near side, or the link, is gone.
    table: where the program's own output goes.
    """
    remove_stale_runs()
    work = tempfile.mkdtemp(prefix=RUN, dir=ROOT)
    with open(os.path.join(work, LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until this process ends, in whatever way
        return run_in(work, package, result, arguments, table)


def run_in(work, package, result, arguments, table):
    """Run the program in a folder that is removed afterwards; return its exit code."""
    paths = [package, PACKAGES, os.environ.get("PYTHONPATH")]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in paths if path))
    command = [sys.executable, "-m", "edgedet"] + [os.path.expanduser(argument) for argument in arguments]
    program = subprocess.Popen(
        command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=table, start_new_session=True
    )
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: end_group(program))
    threading.Thread(target=watch, args=(program,), daemon=True).start()
    try:
        code = program.wait()
        end_group(program)  # what it left behind
        try:
            with open(os.path.join(work, result)) as file:
                sys.stdout.write(file.read())
        except OSError:
            return code or 1
        return 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_stale_runs():
    """Remove the folders of runs that ended without doing it, as by a power cut: nobody holds their locks."""
    for name in os.listdir(ROOT):
        folder = os.path.join(ROOT, name)
        try:
            if not name.startswith(RUN) or time.time() - os.stat(folder).st_mtime < YOUNG_S:
                continue
            with open(os.path.join(folder, LOCK), "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it runs, or another one was faster
            continue


def watch(program):
    """End the program when the near side is silent."""
    descriptor = sys.stdin.fileno()
    while program.poll() is None:
        ready = select.select([descriptor], [], [], QUIET_S)[0]
        if not ready or not os.read(descriptor, 4096):
            end_group(program)
            return


def end_group(program):
    """End a program and its children: first asked, then made to."""
    try:
        os.killpg(program.pid, signal.SIGTERM)
        until_s = time.time() + END_S
        while time.time() < until_s:
            program.poll()
            os.killpg(program.pid, 0)
            time.sleep(0.05)
        os.killpg(program.pid, signal.SIGKILL)
    except OSError:  # none is left
        pass


if __name__ == "__main__":
    action, arguments = globals()[sys.argv[1]], sys.argv[2:]
    sys.exit(action(*arguments))
