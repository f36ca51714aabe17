"""What the planner says of a model on a board: its latency, its accuracy, and the choice among several."""

import pytest

from edgedet.benchmarks.planner.boards import Accuracy, find_accuracy, find_board, read_boards
from edgedet.benchmarks.planner.estimate import (
    Estimate,
    choose,
    compute_scaling_error,
    estimate,
    find_timing,
    judge_fit,
    list_precisions,
)
from edgedet.errors import UnsupportedError


def row(variant: str, ms: float, ap: float | None, *, band: float = 1.2, memory_mb: float = 100.0) -> Estimate:
    return Estimate(
        variant, 512, "fp16", "trt", ms, ms / band, ms * band, "fitted", "", memory_mb, Accuracy(ap, "published")
    )


def test_best_is_the_most_accurate_that_fits_at_its_slow_end():
    """Budget 30: d1 (24 to 28.8) fits for sure, d2 (29, up to 34.8) by its middle only, d3 does not."""
    rows = [row("d0", 10, 34), row("d1", 24, 40), row("d2", 29, 43), row("d3", 60, 47)]
    choice = choose(rows, 30, 8)
    assert (choice.best.variant, choice.certain, choice.runner_up.variant) == ("d1", True, "d2")
    assert [judge_fit(item, 30, 8) for item in rows] == ["yes", "yes", "likely", "no"]
    assert judge_fit(row("d2", 35, 43), 30, 8) == "unlikely"


def test_what_is_only_likely_is_chosen_where_nothing_is_sure_and_said_so():
    choice = choose([row("d0", 28, 34), row("d1", 29, 40)], 30, 8)
    assert (choice.best.variant, choice.certain, choice.runner_up.variant) == ("d1", False, "d0")


def test_equal_accuracy_goes_to_the_faster_and_unknown_accuracy_comes_last():
    choice = choose([row("d0", 12, 34), row("d0", 10, 34), row("d3", 1, None), row("d2", 1, None)], 30, 8)
    assert choice.best.ms == 10
    assert choice.runner_up.variant == "d3"


def test_what_the_memory_does_not_hold_is_not_chosen():
    """4 GB: 4096 MB less 600 for the system."""
    rows = [row("d0", 10, 34), row("d4", 12, 49, memory_mb=3500)]
    assert choose(rows, 30, 4).best.variant == "d0"
    assert judge_fit(rows[1], 30, 4) == "memory"
    assert choose(rows, 30, None).best.variant == "d4"


def test_every_board_plans_or_says_why_not():
    for board in read_boards().values():
        precisions = list_precisions(board)
        assert precisions
        for precision in precisions:
            found = estimate(board, "d0", 512, precision, board.cores)
            assert 0 < found.low_ms < found.ms < found.high_ms
            assert found.basis == "extrapolated" or board.name in ("jetson-nano", *_LITE_BOARDS)
    with pytest.raises(
        UnsupportedError,
        match=r"int8 cannot be planned for Raspberry Pi 3 Model B, because nothing was published.*fp32",
    ):
        find_timing(find_board("raspberry-pi-3"), "int8")


_LITE_BOARDS = ("raspberry-pi-3", "raspberry-pi-3b-plus", "raspberry-pi-4", "raspberry-pi-5", "n100")


def test_int8_of_a_jetson_is_told_to_be_of_an_engine_that_is_not_ours():
    """0.77 is of implicit INT8, where TensorRT mixes precisions; a file with Q/DQ may gain nothing."""
    fp16, int8 = (find_timing(find_board("orin-nano"), precision) for precision in ("fp16", "int8"))
    least, likely, most = (a / b for a, b in zip(int8.factor, fp16.factor, strict=True))
    assert (round(least, 2), round(likely, 2), most) == (0.72, 0.77, 1.0)
    assert int8.basis == "extrapolated"
    assert "FP16 x 0.77 (NVIDIA's D0 sample: another GPU, and TensorRT chose each layer's precision" in int8.why


def test_a_scaled_board_is_as_much_faster_as_its_data_sheet_and_less_sure():
    """Orin NX 16GB: 0.918 / 0.625 = 1.469 in computing, 102.4 / 68 = 1.506 in bandwidth."""
    nano, nx = (estimate(find_board(name), "d0", 512, "fp16", 1) for name in ("orin-nano", "orin-nx"))
    assert nano.ms / nx.ms == pytest.approx(1.469, rel=1e-3)
    assert nx.high_ms / nx.ms > nano.high_ms / nano.ms
    assert 0.3 < compute_scaling_error() < 0.4


def test_names_are_found_as_people_write_them():
    assert find_board("Orin_Nano").name == find_board("jetson-orin-nano").name == "orin-nano"
    assert find_board("rpi5").name == "raspberry-pi-5"
    assert find_board("nano").name == "jetson-nano"


def test_accuracy_says_what_is_known_of_it():
    assert find_accuracy("d0", 512, "fp16").value == 34.3
    assert find_accuracy("d2", 640, "fp32").value == 41.7
    assert find_accuracy("d0", 640, "fp32").value is None
    assert find_accuracy("lite0", 320, "int8").value == 26.1
    int8 = find_accuracy("d0", 512, "int8")
    assert int8.value == pytest.approx(0.983 * 34.3)
    assert "on COCO not measured" in int8.note
