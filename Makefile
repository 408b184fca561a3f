# Everything a developer or a curious user runs. Needs: make, Python 3.11 or newer, pip. See README.md.
#
#   make demo    a whole network on this machine: publish, mirror, kill the origin, fetch from the survivors
#   make test    the whole test suite        (make test ARGS="-k filters -x" passes arguments to pytest)
#   make test-long  the command lines of all operators of mirrors, and thousands of cases beside rsync (CASES=5000)
#   make lint    ruff, mypy --strict, and the order of rooms
#   make bench   publishing and fetching beside rsync, aria2c, libtorrent: an hour (ARGS="small nochange": these rows)
#   make bench-dht  the DHT beside its targets, an hour (quick: make bench-dht DHT_NODES=100 DHT_READS=60)
#   make fuzz    coverage-guided fuzzing of what strangers send, a minute each of 24 targets (FUZZ_SECONDS=600 make fuzz: longer)
#   make fuzz-corpus  what these runs have found into fuzz/corpus, which every test run tries
#   make circumstances  one path's trouble, beside rsync, on seven file systems; as root, who can mount them
#   make man     man pages into build/man (the wheel has them too), shell completion into build/completion
#   make dist    wheel and source distribution into dist/

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
# program:Debian package. Tests compare with these programs; without one, the tests that need it fail and name the package.
PROGRAMS := rsync:rsync nginx:nginx apache2:apache2-bin curl:curl wget:wget chromium:chromium ip:iproute2 nft:nftables \
  openssl:openssl systemd-analyze:systemd promtool:prometheus mandoc:mandoc man:man-db lexgrog:man-db \
  squid:squid-openssl tinyproxy:tinyproxy microsocks:microsocks dnsmasq:dnsmasq-base stunnel:stunnel4

.PHONY: demo test test-long lint format bench bench-dht fuzz fuzz-corpus circumstances man dist clean programs
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

# ---- virtual environments -------------------------------------------------------------------------------------
# A distribution may ship venv without ensurepip (Debian without python3-venv): then the outer pip fills the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "p2psync needs Python 3.11 or newer; '$(PYTHON)' is older or missing. Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)

PIP_INSTALL = if $(BIN)/python -m pip --version >/dev/null 2>&1; \
  then $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); \
  else $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check $(1); fi

# Stamps: installed again only when pyproject.toml changed. The demo needs no development tools.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(call PIP_INSTALL,-e .)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(call PIP_INSTALL,-e '.[dev]')
	@touch $@ $(VENV)/.installed

# ---- what people run ------------------------------------------------------------------------------------------
demo: $(VENV)/.installed
	$(BIN)/p2psync demo $(ARGS)

test: $(VENV)/.installed-dev programs
	$(BIN)/python -m pytest -n 2 $(ARGS)

CASES ?= 2000
test-long: $(VENV)/.installed-dev programs
	TEST_LONG=1 P2PSYNC_CASES=$(CASES) $(BIN)/python -m pytest -n 2 tests/interop/test_rsync_operators.py \
	  tests/interop/test_selecting_rsync.py $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# docs/benchmarks.md. Prints its table and writes it there. Quick: make bench ARGS="small nochange --runs 1 --scale 0.01".
# libtorrent is only compared with, so only this target installs it.
$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	$(call PIP_INSTALL,-e '.[bench]')
	@touch $@ $(VENV)/.installed

bench: PROGRAMS := rsync:rsync nginx:nginx aria2c:aria2 ip:iproute2 tc:iproute2 mkfs.ext4:e2fsprogs
bench: $(VENV)/.installed-bench programs
	$(BIN)/python -m bench --results build/bench.json --write docs/benchmarks.md $(ARGS)

# Prints the table of docs/benchmarks.md and writes it there; ARGS="liars sybils" measures only these rows.
DHT_NODES ?= 1000
DHT_READS ?= 3000
bench-dht: $(VENV)/.installed-dev
	$(BIN)/python -m bench.dht --nodes $(DHT_NODES) --reads $(DHT_READS) \
	  --results build/bench-dht.json --write docs/benchmarks.md $(ARGS)

# docs/fuzzing.md. atheris is large and not for every platform, so only this target installs it.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= datagram reply look record snapshot listing recipe attributes archive_head mirror_list static_files message \
  http_request http_response http_stream http_link http_line http_agreed ranges coverage seed_list web_answer url proxy_answer
$(VENV)/.installed-fuzz: pyproject.toml | $(BIN)/python
	$(call PIP_INSTALL,-e '.[fuzz]')
	@touch $@

fuzz: $(VENV)/.installed-fuzz
	@for target in $(FUZZ_TARGETS); do \
	  $(BIN)/python -m fuzz $$target -max_total_time=$(FUZZ_SECONDS) -timeout=1 -print_final_stats=1 || exit 1; done

# What the runs have found is brought into fuzz/corpus: as little as reaches as much.
fuzz-corpus: $(VENV)/.installed-fuzz
	@for target in $(FUZZ_TARGETS); do \
	  rm -rf build/fuzz-merged/$$target && mkdir -p build/fuzz/$$target build/fuzz-merged/$$target && \
	  $(BIN)/python -m fuzz $$target -merge=1 -timeout=10 build/fuzz-merged/$$target build/fuzz/$$target 2>/dev/null && \
	  $(BIN)/python -m fuzz.corpus $$target build/fuzz-merged/$$target || exit 1; done

# docs/circumstances.md. Prints its table and writes it there; ARGS="--only case --places exfat": these rows.
circumstances: PROGRAMS := rsync:rsync mkfs.ext4:e2fsprogs mkfs.btrfs:btrfs-progs fuse-overlayfs:fuse-overlayfs \
  mkfs.exfat:exfatprogs mount.exfat-fuse:exfat-fuse mkntfs:ntfs-3g lowntfs-3g:ntfs-3g
circumstances: $(VENV)/.installed-dev programs
	$(BIN)/python -m tests.circumstances --write docs/circumstances.md $(ARGS)

man: $(VENV)/.installed-dev
	@rm -rf build/man build/completion; mkdir -p build/completion
	$(BIN)/python -m p2psync.cli.manual build/man
	@for shell in bash zsh fish; do \
	  _P2PSYNC_COMPLETE=$${shell}_source $(BIN)/p2psync > build/completion/p2psync.$$shell || exit 1; done
	@ls build/man build/completion

dist: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# Programs that tests and benchmarks run beside p2psync. Root on a Debian system gets them installed (APT=no: never);
# everybody else is told what to install, and what needs them fails. RUNLEVEL=1: no daemon that
# comes with a program is started.
programs:
	@missing=; for pair in $(PROGRAMS); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v "$${pair%%:*}" >/dev/null 2>&1 || missing="$$missing $${pair##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && [ "$(APT)" != no ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing programs to compare with:$$missing"; \
	    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	    apt-get update -q >/dev/null && apt-get install -q -y --no-install-recommends $$missing >/dev/null; \
	  else \
	    echo "Some of this will fail: install its programs with  apt-get install$$missing" >&2; \
	  fi; fi

clean:
	rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
