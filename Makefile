# `make demo` and `make test` set up .venv by themselves, on Python 3.10 to 3.13, and then run.
# Another interpreter: make PYTHON=/path/to/python3 demo

VENV := .venv
BIN := $(VENV)/bin
OUT := edgedet-out
MODEL := $(OUT)/efficientdet_d0_street.onnx

FITS := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.10; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# One torch for everybody who develops; pip takes a CPU build where it is offered one (CONTRIBUTING.md).
TORCH := torch==2.13.0
# The public EfficientDet that tests compare with. effdet itself goes in without its dependencies, which name no versions.
ORACLE := timm==1.0.19 omegaconf==2.4.0

.PHONY: demo demo-int8 web-screenshots axe site test slow board board-ci board-arm64 check clean

demo: $(VENV)/demo.stamp
	$(BIN)/edgedet export --phi 0 --weights demo --out $(OUT)
	$(BIN)/edgedet run $(MODEL) --source edgedet/demo/street.mp4 --save $(OUT)/demo.mp4 --jsonl $(OUT)/demo.jsonl
	@echo "The clip with boxes: $(CURDIR)/$(OUT)/demo.mp4"
	@echo "A line a frame:      $(CURDIR)/$(OUT)/demo.jsonl"

# The INT8 model inside the package, after a change of calibration or of the TFLite writer.
demo-int8: $(VENV)/demo.stamp
	$(BIN)/python scripts/make/demo_int8.py

# The pictures of docs/web.md, after a change of the page; needs Debian's chromium and chromium-driver.
web-screenshots: $(VENV)/dev.stamp
	$(BIN)/python scripts/make/web_screenshots.py

# axe-core, which finds faults of accessibility, for tests of pages: from npm, neither committed nor installed.
AXE := axe-core-4.14.1
axe: $(VENV)/axe.min.js
$(VENV)/axe.min.js: | $(VENV)/dev.stamp
	cd $(VENV) && npm pack --silent $(subst core-,core@,$(AXE)) && tar xzf $(AXE).tgz --strip-components=1 package/axe.min.js && rm $(AXE).tgz

# The documents as a web site, in site/. Its theme prints an advertisement for its successor without this variable.
site: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Four processes, of one thread each, for two cores, as many tests wait for cameras; another number: make JOBS=8 test
JOBS := 4
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: $(VENV)/dev.stamp
	$(PYTEST)

slow: $(VENV)/dev.stamp
	$(PYTEST) -m slow || [ $$? -eq 5 ] # 5: no test is marked slow

# A whole Debian with kernel, camera driver and systemd in qemu (docs/virtual-board.md): as root, with Debian's packages.
BOARD_TESTS := $(BIN)/python -m pytest -p no:randomly tests/virtual_board -m

board: $(VENV)/dev.stamp
	$(BOARD_TESTS) board

# What .ci/run has time for.
board-ci: $(VENV)/dev.stamp
	$(BOARD_TESTS) 'board and ci' -rs

board-arm64: $(VENV)/dev.stamp
	EDGEDET_BOARD_ARCH=arm64 $(BOARD_TESTS) board

check: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/python.stamp:
	@"$(PYTHON)" -c '$(FITS)' 2>/dev/null || { echo "edgedet: wanted Python 3.10 to 3.13, found" \
		"$(or $(PYTHON),none): install one, or say make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "Setting up $(VENV); the first time takes some minutes (PyTorch)."
	"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/demo.stamp: $(VENV)/python.stamp setup.py pyproject.toml Makefile
	$(PIP) --editable '.[export]' $(TORCH)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/python.stamp setup.py pyproject.toml Makefile
	$(PIP) --editable '.[dev]' $(TORCH) $(ORACLE)
	$(PIP) --no-deps effdet==0.4.1
	$(PIP) --editable '.[rtx]' || echo "No tensorrt-rtx here (x86-64 only): its tests will be skipped."
	@touch $(VENV)/demo.stamp $@
