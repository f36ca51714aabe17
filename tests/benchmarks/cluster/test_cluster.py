"""Work in shards on Ray's workers gives what one process gives, also where workers are killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from leftovers import running_children
from media import picture, write_fake_model
from waiting import wait_until

from edgedet import cli
from edgedet.benchmarks.cluster import shards
from edgedet.benchmarks.cluster.shards import ClusterOptions, Lost, Throughput, ray_session, run_in_shards
from edgedet.errors import InputError
from edgedet.judge.gate.reference import FloatReference
from edgedet.specs import SPECS, resized
from edgedet.types import ModelInput

ITEMS = list(range(10))


def square(shared, items):
    """The first shards take longest, so they are done last."""
    time.sleep(0.05 * max(0, 4 - items[0]))
    return [shared * item * item for item in items]


def square_or_die_once(marker, items):
    if 4 in items and not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return [item * item for item in items]


def square_or_die(shared, items):
    if 4 in items:
        os._exit(1)
    return [item * item for item in items]


def niceness(shared, items):
    return [os.nice(0) for _ in items]


def refuse(shared, items):
    raise InputError("no.")


@pytest.mark.slow  # Ray takes seconds to start, so what it does is tested in one session
def test_results_come_in_order_whatever_happens_to_workers(tmp_path):
    ray = pytest.importorskip("ray", reason="workers are Ray's (edgedet[cluster])")
    options = ClusterOptions(workers=2)
    squares = [item * item for item in ITEMS]
    with ray_session(options) as connected:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        for shard_size in (1, 3, 16):
            throughput = Throughput()
            found = run_in_shards(connected, square, 2, ITEMS, options, shard_size=shard_size, throughput=throughput)
            assert found == [2 * value for value in squares]
            assert sum(throughput.items.values()) == len(ITEMS)

        assert run_in_shards(connected, niceness, None, ITEMS, options) == [os.nice(0)] * len(ITEMS)

        died = tmp_path / "died"
        assert run_in_shards(connected, square_or_die_once, str(died), ITEMS, options, shard_size=3) == squares
        assert died.exists()

        found = run_in_shards(connected, square_or_die, None, ITEMS, options, shard_size=3)
        assert isinstance(found[4], Lost)
        assert "ended twice" in found[4].reason
        assert found[:4] + found[5:] == squares[:4] + squares[5:]

        with pytest.raises(InputError, match=r"^no\.$"):
            run_in_shards(connected, refuse, None, ITEMS, options)
    wait_until(lambda: not running_children())  # Ray's own processes end a moment after the workers


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """a.fake and 40 labelled pictures, one of them damaged, one missing."""
    cv2 = pytest.importorskip("cv2", reason="edgedet eval reads images by OpenCV")
    pytest.importorskip("pycocotools", reason="AP is computed by pycocotools (edgedet[bench])")
    monkeypatch.chdir(tmp_path)
    write_fake_model(Path("a.fake"))
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for n in range(40):
        cv2.imwrite(f"{n}.png", picture(5 * n))
        images.append({"id": n + 1, "file_name": f"{n}.png", "width": 256, "height": 192})
        x, y = (float(value) for value in rng.uniform(0, 40, 2))
        boxes.append({"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": [x, y, 64.0, 128.0], "area": 8192.0})
        boxes[-1]["iscrowd"] = 0
    Path("7.png").write_bytes(b"\x89PNG and no more")
    Path("9.png").unlink()
    labels = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    Path("labels.json").write_text(json.dumps(labels))
    return tmp_path


@pytest.mark.slow
def test_eval_gives_the_same_figures_to_the_last_bit_with_any_number_of_workers(labelled):
    """Of four workers one is killed in its first shard."""
    pytest.importorskip("ray", reason="workers are Ray's (edgedet[cluster])")
    command = [sys.executable, "-m", "edgedet", "eval", "a.fake", "--data", "labels.json", "--threads", "1", "--json"]
    figures = []
    for workers in ([], ["--workers", "1"], ["--workers", "2"], ["--workers", "4"]):  # one may use Ray once at a time
        run = subprocess.Popen(
            [*command, *workers],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "EDGEDET_TEST": f"{labelled} {workers}"},
        )
        if "4" in workers:
            kill_one_worker(f"EDGEDET_TEST={labelled} {workers}")
        out, err = run.communicate()
        assert run.returncode == 1, err  # two pictures failed
        figures.append(out)
    assert json.loads(figures[0])["images"] == 38
    assert len(json.loads(figures[0])["failures"]) == 2
    assert figures[1:] == figures[:1] * 3


@pytest.mark.slow
def test_calibration_and_verdict_are_those_of_one_process_with_any_number_of_workers(tmp_path, monkeypatch):
    """Seven frames in shards of four; with two workers one of them is killed while it observes."""
    pytest.importorskip("ray", reason="workers are Ray's (edgedet[cluster])")
    torch = pytest.importorskip("torch", reason="needs the export extra")
    import onnx
    from models import random_pixels
    from tflite_models import random_graph

    from edgedet.benchmarks.cluster.int8_workers import int8_workers
    from edgedet.calibration.graph.executor import Executor
    from edgedet.calibration.ranges.choose import table_from_observed
    from edgedet.calibration.ranges.observe import observe
    from edgedet.export.int8.workers import open_here

    torch.set_num_threads(1)
    monkeypatch.setenv("EDGEDET_TEST", str(tmp_path))  # Ray's processes inherit it
    spec = resized(SPECS["tf_efficientdet_d0"], (128, 128))
    graph = random_graph(spec)
    path = tmp_path / "tiny.onnx"
    onnx.save(graph, path)
    executor = Executor(graph)
    frames = [ModelInput(random_pixels(spec, seed), 1.0, spec.input_hw) for seed in range(7)]

    def result(observe_frames, open_detector, name):
        observed, hashes = observe(executor, [frame.pixels for frame in frames], observe_frames=observe_frames)
        table_from_observed(executor, observed, hashes, "0" * 64).save(tmp_path / name)
        reference = FloatReference(open_detector(path).detect, frames, 0.05)
        return (tmp_path / name).read_bytes(), reference.judge(open_detector(path).detect)

    alone = result(None, lambda path: open_here(path, 1), "alone.json")
    for workers in (1, 2, 4):
        with int8_workers(ClusterOptions(workers)) as several:
            killer = threading.Thread(target=kill_one_worker, args=(f"EDGEDET_TEST={tmp_path}",))
            if workers == 2:
                killer.start()
            assert result(partial(several.observe_frames, graph), several.open_detector, "w.json") == alone
            if workers == 2:
                killer.join()
    wait_until(lambda: not running_children())


def kill_one_worker(mark):
    """Kill a worker as soon as it works."""

    def working():
        return [pid for pid, command in marked(mark).items() if command.startswith("ray::_run_shard")]

    wait_until(working)
    os.kill(working()[0], signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_ends_all_workers(labelled):
    pytest.importorskip("ray", reason="workers are Ray's (edgedet[cluster])")
    command = [sys.executable, "-m", "edgedet", "eval", "a.fake", "--data", "labels.json", "--threads", "1"]
    mark = f"EDGEDET_TEST={labelled}"
    run = subprocess.Popen(
        [*command, "--workers", "2"], stderr=subprocess.PIPE, env={**os.environ, "EDGEDET_TEST": str(labelled)}
    )
    wait_until(lambda: run.poll() is not None or any("ray::" in name for name in marked(mark).values()))
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    run.communicate()
    assert run.returncode == 130
    wait_until(lambda: not marked(mark))


def marked(mark):
    """Return process id and command line of all processes that have inherited an environment variable."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
    return found


class Here:
    """Stands for Ray: work is done at once, in this process."""

    class exceptions:  # noqa: N801  # Ray's name
        RayTaskError = RayError = ZeroDivisionError

    @staticmethod
    def put(value):
        return value

    @staticmethod
    def remote(**options):
        class Remote:
            def __init__(self, function):
                self.remote = partial(partial, function)

        return Remote

    @staticmethod
    def wait(running, num_returns):
        return running[:num_returns], running[num_returns:]

    @staticmethod
    def get(task):
        return task()


def negate(shared, items):
    return [-item for item in items]


def test_lines_said_between_results_have_a_line_of_their_own_beside_the_bar(capsys):
    pytest.importorskip("tqdm", reason="bars are tqdm's (edgedet[cluster])")

    def say(index, result):
        print(f"item {index}: {result}", file=sys.stderr)

    found = run_in_shards(Here, negate, None, [3, 4, 5], ClusterOptions(workers=1), shard_size=1, each=say)
    assert found == [-3, -4, -5]
    shown = capsys.readouterr().err
    for line in ("item 0: -3", "item 1: -4", "item 2: -5"):
        assert shown[shown.index(line) - 1] in "\r\n"


def test_without_ray_a_line_says_what_to_install(labelled, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["eval", "a.fake", "--data", "labels.json", "--workers", "2"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'edgedet[cluster]'" in err
    assert len(err.splitlines()) == 1


def test_no_workers_are_refused(labelled, capsys):
    assert cli.main(["eval", "a.fake", "--data", "labels.json", "--workers", "0"]) == 2
    assert "--workers" in capsys.readouterr().err


class Machines:
    """Stands for a Ray cluster of two machines with 2 and 4 CPUs, and one that is gone."""

    @staticmethod
    def nodes():
        sizes = [(2.0, True), (4.0, True), (64.0, False)]
        return [{"Alive": alive, "Resources": {"CPU": cpus, "memory": 1e9}} for cpus, alive in sizes]


def test_more_threads_than_any_machine_has_are_refused_instead_of_waited_for():
    with pytest.raises(InputError, match=r"at head:6379 has 5 CPUs for a worker \(--threads\); the largest has 4"):
        shards._check_room(Machines, ClusterOptions(address="head:6379", threads=5))
    shards._check_room(Machines, ClusterOptions(address="head:6379", threads=4))
    assert shards._count_workers(Machines, ClusterOptions(address="head:6379", threads=3)) == 1
    assert shards._count_workers(Machines, ClusterOptions(address="head:6379", threads=2)) == 3


@pytest.mark.parametrize("address", ["127.0.0.1:1", "head"])
def test_a_cluster_that_does_not_answer_is_said_at_once(labelled, capsys, address):
    pytest.importorskip("ray", reason="workers are Ray's (edgedet[cluster])")
    assert cli.main(["eval", "a.fake", "--data", "labels.json", "--ray", address]) == 2
    assert f"no Ray cluster answers at {address}" in capsys.readouterr().err
