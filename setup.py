"""Package edgedet: device code in edgedet/, host code in export/, calibration/, benchmarks/ and training/.

The host folders install as edgedet.export, edgedet.calibration and so on, so that no generic name
lands in site-packages (docs/decisions/0001-layout.md). The links inside edgedet/ serve type checkers and runs from
the checkout; nothing here follows them.
"""

from setuptools import find_packages, setup

HOST_FOLDERS = ("export", "calibration", "benchmarks", "training")
PACKAGES = find_packages(include=["edgedet", "edgedet.*"], exclude=[f"edgedet.{name}*" for name in HOST_FOLDERS])
for folder in HOST_FOLDERS:  # the studies behind the documents run from a checkout only
    rooms = find_packages(folder, exclude=["studies", "studies.*"])
    PACKAGES += [f"edgedet.{folder}", *(f"edgedet.{folder}.{name}" for name in rooms)]

LITERT = "ai-edge-litert>=1.2"
PC = ["opencv-python>=4.8", "onnxruntime>=1.16", f"{LITERT}; python_version >= '3.10'"]
TFLITE = [LITERT, "flatbuffers>=24"]
EXPORT = [
    *PC,
    *TFLITE,
    "torch>=2.5",
    "onnx>=1.16",
    "safetensors>=0.4",
    "scikit-image>=0.22",
    "tqdm>=4.60",
    "pyyaml>=6",
    "google-crc32c>=1.5",
]
BENCH = [*PC, "pycocotools>=2.0.7", "tqdm>=4.60", "matplotlib>=3.8", "pyyaml>=6"]
TRAIN = [*EXPORT, "pycocotools>=2.0.7", "matplotlib>=3.8", "tensorboard>=2.16"]
WEB = ["tornado>=6.4.2", "prometheus-client>=0.20", "tqdm>=4.60"]  # the last ones of Python 3.8 are 6.4.2 and 0.21.1
CONFIG = ["pyyaml>=5.3", "ruamel.yaml>=0.15"]  # Debian's python3-yaml and python3-ruamel.yaml will do
MQTT = ["paho-mqtt>=2"]
RECORD = ["av>=12"]  # the last one of Python 3.8 is 12.3
SERVE = ["pyzmq>=25"]
CLUSTER = [*BENCH, "ray>=2.40"]
COMPLETION = ["shtab>=1.7"]  # the last one of Python 3.8 is 1.7.1
DEV = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-randomly==5.1.0",
    "pytest-xdist==3.8.0",
    "filelock>=3.13",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "import-linter==2.17",
    "setuptools>=70.1",
    "h5py>=3",
    "cramjam>=2.8",
    "selenium>=4.20",
    "mkdocs-material>=9.5",
    "supervision>=0.25",
    "trackers>=2.6",
    "tritonclient[grpc,http]>=2.40",
]

setup(
    license="Apache-2.0",  # here: each spelling of pyproject.toml fails or warns with some setuptools from 64 to 84
    packages=PACKAGES,
    package_dir={"edgedet": "edgedet", **{f"edgedet.{name}": name for name in HOST_FOLDERS}},
    package_data={
        "edgedet": ["py.typed", "demo/*", "web/page/*", "web/page/vendor/*", "label/page/*"],
        "edgedet.benchmarks.planner": ["*.json"],
    },
    include_package_data=False,
    extras_require={
        "pc": PC,
        "export": EXPORT,
        "train": TRAIN,
        "bench": BENCH,
        "tflite": TFLITE,
        "tensorrt": ["pycuda>=2022.1"],
        "rtx": ["tensorrt-rtx>=1.7"],  # tests only: NVIDIA's parser and builder without a GPU; its own licence
        "web": WEB,
        "serve": SERVE,
        "record": RECORD,
        "cluster": CLUSTER,
        "mqtt": MQTT,
        "config": CONFIG,
        "completion": COMPLETION,
        "dev": sorted({*EXPORT, *TRAIN, *BENCH, *WEB, *RECORD, *MQTT, *CONFIG, *SERVE, *CLUSTER, *COMPLETION, *DEV}),
        "all": sorted(
            {*EXPORT, *TRAIN, *BENCH, *WEB, *RECORD, *MQTT, *CONFIG, *SERVE, *CLUSTER, *COMPLETION}
        ),  # every feature but tensorrt: pycuda builds against CUDA's headers
    },
)
