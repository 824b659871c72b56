# The very commands that the README, the continuous integration and a newcomer run.
PYTHON ?= python3
VENV ?= .venv
KEEP ?=
FUZZ_SECONDS ?= 1500
ARGS ?=
# torch's CPU build has an index of its own; TORCH=cuda takes the build that PyPI serves.
TORCH ?= cpu
TORCH_INDEX = $(if $(or $(PIP_FIND_LINKS),$(filter cuda,$(TORCH))),,--index-url https://download.pytorch.org/whl/cpu)
BIN = $(VENV)/bin
PIP_INSTALL = install --quiet --disable-pip-version-check
# $(call locked,PIP,FOLDER,EXTRAS): what these extras need, as constraints.txt and torch-cpu.txt have it, by hash alone.
# torch alone first: the other packages never come from its index.
define locked
	$(if $(filter cuda,$(TORCH)),,$(1) $(PIP_INSTALL) --no-deps --require-hashes $(TORCH_INDEX) -r torch-cpu.txt)
	$(PYTHON) -m supply.pins --torch $(TORCH) $(3) > $(2)/pins.txt
	$(1) $(PIP_INSTALL) --require-hashes -r $(2)/pins.txt
endef
PEERS = $(patsubst %,.peers/%/.ready,litserve mlserver bentoml)
READY = $(VENV)/.ready
ENGINE ?= docker
REMOTE = adlfs gcsfs s3fs
AZURITE = azurite@3.37.0
NEWEST ?= 3.11 3.13
LOCK = .lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command 'make lock'
OCI = org.opencontainers.image
SOURCE ?= $(shell git remote get-url origin 2>/dev/null)
SBOM = .sbom
PAGE_PICTURES = analyse-image analyse-image-dark analyse-row live model phone-list

.PHONY: demo test test-fast test-clients test-buckets test-abuse test-newest fuzz check audit lock renew-base serve
.PHONY: bench bench-serving bench-peers bench-soak bench-detection bench-explaining bench-counterfactuals
.PHONY: pictures page-pictures explained image image-test sbom clean

$(READY): pyproject.toml constraints.txt torch-cpu.txt supply/pins.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(call locked,$(BIN)/pip,$(VENV),dev)
	$(BIN)/pip $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	touch $@

.peers/%/.ready: benchmarks/peers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check $(TORCH_INDEX) "$$(grep '^torch==' $<)"
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

demo: $(READY)  ## train on real data, serve, upload, judge; KEEP=1 leaves the server running
	$(BIN)/elbound demo $(if $(KEEP),--keep) $(ARGS)

# One process is as quick as two on two cores, since the servers under test take the second: WORKERS=4 is for more cores.
# Whole files go to a worker, so that what a file makes for its tests is made once.
WORKERS ?= 0
IN_PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(READY)  ## every test; ELBOUND_DATA=DIR adds those on real data sets
	$(BIN)/python -m pytest $(IN_PARALLEL) $(ARGS)

test-fast: $(READY)  ## all tests but those marked slow
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow" $(ARGS)

.clients/.ready: tests/clients/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-clients: $(READY) .clients/.ready  ## the clients of Triton and KServe, in an environment of their own, against a server
	$(BIN)/python -m pytest tests/clients $(ARGS)

# The clients of buckets are the extra `remote`; what else the tests need comes from their own environment.
.buckets/.ready: tests/buckets/requirements.txt $(READY)
	$(PYTHON) -m venv $(@D)
	$(PYTHON) -m supply.pins --all > $(@D)/constraints.txt
	$(@D)/bin/pip $(PIP_INSTALL) -c $(@D)/constraints.txt -r $< $(REMOTE)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/elbound.pth"
	if command -v npm; then npm install --silent --no-audit --no-fund --prefix $(@D) $(AZURITE); fi
	touch $@

test-buckets: .buckets/.ready  ## stores on s3://, gs:// and (with npm) az://, against servers that speak these protocols
	.buckets/bin/python -m pytest tests/buckets $(ARGS)

test-abuse: $(READY)  ## bombs, floods and slow clients against a server; prints its memory, /healthz and connections
	$(BIN)/python -m pytest tests/abuse --run-abuse $(ARGS)

.fuzz/%/.ready: tests/fuzz/%.txt $(READY)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# What the decoders need comes from the environment of the tests: atheris alone is in its own.
.fuzz/coverage/elbound.pth: .fuzz/coverage/.ready
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $@
	cp $@ "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

fuzz: $(READY) .fuzz/coverage/elbound.pth .fuzz/routes/.ready  ## every decoder and route, FUZZ_SECONDS in all (25 min)
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

check: $(READY)  ## lint, format, types, Dockerfile, digests of images, known vulnerabilities where the index tells them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m supply.images
	$(BIN)/python -m supply.audit

audit: $(READY)  ## ask the package index which pins have known vulnerabilities; says so where it cannot
	$(BIN)/python -m supply.audit

# uv keeps every version that still fits pyproject.toml; ARGS=--upgrade takes the newest.
lock: .lock/.ready  ## constraints.txt and torch-cpu.txt, with hashes; make lock ARGS="--upgrade-package pillow"
	$(LOCK) pyproject.toml --all-extras -o constraints.txt $(ARGS)
	echo uv | $(LOCK) - -o supply/uv.txt $(ARGS)
	$(PYTHON) -m supply.torch_cpu

.lock/.ready: supply/uv.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip $(PIP_INSTALL) --require-hashes -r $<
	touch $@

renew-base:  ## write the digests that the tags of the Dockerfile's and deploy's images have now; needs skopeo or docker
	$(PYTHON) -m supply.images --renew

test-newest:  ## the fast tests with the newest versions that pyproject.toml allows, on each of NEWEST that is installed
	$(PYTHON) -m supply.newest $(NEWEST) $(if $(TORCH_INDEX),--torch-index $(lastword $(TORCH_INDEX))) -- $(ARGS)

serve: $(READY)  ## make serve ARGS="bundles/widgets --port 8000"
	$(BIN)/elbound serve $(ARGS)

bench: $(READY)  ## measure; the tables are kept in benchmarks/results
	$(call locked,$(BIN)/pip,$(VENV),bench)
	$(BIN)/python -m benchmarks.startup $(ARGS)
	$(BIN)/python -m benchmarks.training $(ARGS)
	$(BIN)/python -m benchmarks.scoring $(ARGS)
	$(BIN)/python -m benchmarks.drift $(ARGS)
	$(BIN)/python -m benchmarks.uploads $(ARGS)
	$(BIN)/python -m benchmarks.swaps $(ARGS)

bench-soak: $(READY)  ## memory over a million mixed requests, 5 min; needs wrk
	$(BIN)/python -m benchmarks.soak $(ARGS)

bench-serving: $(READY)  ## every line of serving but the uploads, 25 min; needs wrk; make bench-serving ARGS="--only tail idle"
	$(BIN)/python -m benchmarks.serving $(ARGS)

bench-peers: $(READY) $(PEERS)  ## install LitServe, MLServer and BentoML in .peers/, 4.5 GB, and measure beside them; needs wrk
	$(BIN)/python -m benchmarks.serving --only peers large $(ARGS)

bench-detection: $(READY)  ## AUROC beside the peers; ELBOUND_DATA=DIR make bench-detection ARGS="tables --workers 2"
	$(call locked,$(BIN)/pip,$(VENV),bench)
	$(BIN)/python -m benchmarks.detection $(ARGS)

pictures: $(READY)  ## draw those of docs/scores.md again
	$(BIN)/python docs/draw.py

page-pictures: $(READY)  ## drive the page in Chromium and take the pictures of docs/page.md again
	$(BIN)/python -m pytest tests/browser $(ARGS)
	for name in $(PAGE_PICTURES); do cp build/screenshots/$$name.png docs/page/; done

explained: $(READY)  ## explain the row and the image of docs/explain.md again; ELBOUND_DATA=DIR make explained
	$(BIN)/python -m docs.explained

bench-counterfactuals: $(READY)  ## are nearest normals found, and how near; ELBOUND_DATA=DIR make bench-counterfactuals
	$(BIN)/python -m benchmarks.counterfactuals

bench-explaining: $(READY)  ## do explanations point at planted defects; ELBOUND_DATA=DIR make bench-explaining
	$(BIN)/python -m benchmarks.explaining

image:  ## build the container, labelled; make image ENGINE=podman SOURCE=https://... ARGS="--build-arg EXTRAS=onnx"
	$(ENGINE) build -t elbound --label $(OCI).version="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	    --label $(OCI).revision="$$(git rev-parse HEAD)" --label $(OCI).source="$(SOURCE)" $(ARGS) .

sbom: $(SBOM)/.ready  ## elbound.cdx.json: every Python package of the container with the licence that it states, as CycloneDX
	$(PYTHON) -m venv --clear --without-pip $(SBOM)/service
	$(call locked,$(SBOM)/tool/bin/pip --python $(SBOM)/service/bin/python,$(SBOM),)
	$(SBOM)/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
	    -o elbound.cdx.json $(SBOM)/service

$(SBOM)/.ready: .ci/sbom.txt
	$(PYTHON) -m venv $(SBOM)/tool
	$(SBOM)/tool/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.compose/.ready: tests/image/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

image-test: $(READY) .compose/.ready  ## build the container, run it, score, stage an incident; says so where no engine is there
	$(BIN)/python -m pytest tests/image --run-image -s $(ARGS)

clean:
	rm -rf $(VENV) $(SBOM) .compose .buckets .lock .newest demo
