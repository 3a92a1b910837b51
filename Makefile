# What a person types; everything real is in scripts/ and in the harness itself.
SHELL := /bin/bash
BIN := .venv/bin
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)
ISOLATED := $(AS_ROOT) scripts/in-namespace
# Who forbids Python to keep what it compiled has half of the quick tests' time go into compiling.
unexport PYTHONDONTWRITEBYTECODE

# What is synced to a disk waits for it, and the quick tests do so often: what they write is
# in memory, where a program can be run from there, and goes with each test that passed.
IN_MEMORY := $(shell findmnt -n -t tmpfs -o OPTIONS /dev/shm 2>/dev/null | grep -qvw noexec \
	&& [ "$$(df --output=avail -k /dev/shm | tail -1)" -gt 1000000 ] && echo PYTEST_DEBUG_TEMPROOT=/dev/shm)
QUICKLY := -o tmp_path_retention_policy=failed

.PHONY: ansible-sanity help setup run test coverage docs pictures map reference mutants test-kvm test-vagrant test-quick test-unit test-pythons test-maintenance lint \
	test-apparmor test-fleet test-handover test-live-kernel test-luo test-qemu-matrix deb test-install bench bench-checks bench-clocks bench-compare bench-events bench-fleet bench-kernel bench-qemu bench-reports bench-scale soak
help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is missing, build the guest images once
	@scripts/setup

run: setup ## a whole maintenance on three real guests, which are removed again
	@$(ISOLATED) $(BIN)/harness lab try

lint: docs ## ruff, mypy, spelling, prose, links; nothing is missing on the map and in the reference
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -P -m scripts.module_map --check
	@$(BIN)/python -P -m scripts.reference --check
	@$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs harness packaging scripts
	@$(BIN)/python -P -m scripts.prose

docs: ## the documentation as a site with search, in site/; a broken link or anchor is a failure
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test-quick: ## both tiers below in one go: no root, no guests, a minute on two cores
	@$(IN_MEMORY) $(BIN)/pytest $(QUICKLY) --hypothesis-profile=quick -n 7 --dist worksteal \
		tests/unit tests/maintenance  # five wait while two work

pictures: setup ## docs/images: the live view and the page of a run on three real guests
	@$(ISOLATED) $(BIN)/python -P -m scripts.pictures

test-unit: ## the quick tests: no root, no guests
	@$(IN_MEMORY) $(BIN)/pytest $(QUICKLY) -n 2 --dist worksteal tests/unit

test-pythons: setup ## the quick tests in Python 3.12, 3.13 and 3.14, as far as they can be had
	@scripts/test-pythons

test-maintenance: ## whole maintenances on a host in memory: no root, no guests, seconds
	@$(IN_MEMORY) $(BIN)/pytest $(QUICKLY) -n 4 tests/maintenance  # they wait more than they work

REQUIRED := HARNESS_REQUIRE=guest,browser,postgresql,vagrant,mono
# Guests are waited for more than worked on: three at a time, each in namespaces and a lab of its own.
# A file is done by one of them; the long ones come first.
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder \
	--tx '3*popen//python=scripts/in-namespace $(BIN)/python'
test: setup lint coverage ## every test, on real guests too
	@$(REQUIRED) $(AS_ROOT) $(BIN)/pytest $(SIDE_BY_SIDE) \
		-m guest tests/drills tests/guest tests/contract

coverage: setup ## the tiers without guests, and what of each room they reach: it may not fall
	@$(IN_MEMORY) $(REQUIRED) $(ISOLATED) $(BIN)/pytest $(QUICKLY) -n 4 --dist worksteal \
		-m "not guest" --cov --cov-report= \
		tests/unit tests/contract tests/maintenance
	@scripts/coverage-gate

test-kvm: setup ## the tests that need a KVM host: in a lab box that is booted for them
	@$(AS_ROOT) $(BIN)/harness lab build labbox
	@HARNESS_REQUIRE=kvm $(ISOLATED) $(BIN)/pytest -n 2 --dist loadfile -m "not apparmor" tests/kvm

test-apparmor: setup ## QEMU upgraded by apt under guests that AppArmor confines, in a lab box: minutes
	@$(AS_ROOT) $(BIN)/harness lab build labbox
	@HARNESS_REQUIRE=kvm $(ISOLATED) $(BIN)/pytest -m apparmor tests/kvm

test-live-kernel: setup ## a region of memory set up, and the kernel replaced under guests, in an emulated host: more than an hour
	@$(AS_ROOT) $(BIN)/harness lab build labbox
	@HARNESS_REQUIRE=live-kernel $(BIN)/pytest -rP -m live_kernel tests/live_kernel

test-handover: setup ## of these, the one that replaces the kernel and then makes the next one refuse the guests' RAM; a quarter of an hour
	@$(AS_ROOT) $(BIN)/harness lab build labbox
	@HARNESS_REQUIRE=live-kernel $(BIN)/pytest -rP tests/live_kernel/test_handover.py

test-luo: setup ## the kernel replaced under guests whose RAM the kernels hand over; compiles two kernels once
	@$(AS_ROOT) $(BIN)/harness lab build labbox luo
	@HARNESS_REQUIRE=luo $(BIN)/pytest -rP -m luo tests/live_kernel

test-qemu-matrix: setup ## tests of kind qemu in other Debians: newer libvirts and QEMUs; minutes, the network
	@$(AS_ROOT) scripts/qemu-matrix

# A file is done by one worker; that of the real hosts waits more than it works.
test-fleet: setup ## the Ansible collection: its playbook on stand-ins and on real hosts in namespaces; minutes
	@scripts/ansible-core
	@HARNESS_REQUIRE=ansible,guest,postgresql $(ISOLATED) $(BIN)/pytest -n 3 --dist loadfile tests/fleet

ansible-sanity: setup ## antsibull-docs and ansible-test sanity of the collection, by both ansible-cores; network once; minutes
	@scripts/ansible-core
	@scripts/ansible-sanity

test-vagrant: setup ## vagrant up and a run in it, for real: some minutes
	@$(AS_ROOT) $(BIN)/harness lab build labbox
	@HARNESS_REQUIRE=vagrant-up $(ISOLATED) $(BIN)/pytest tests/vagrant

deb: ## dist/harness-kvm_VERSION_ARCH.deb: harness with all that it needs beside Debian's Python
	@scripts/build-deb

test-install: deb ## the wheel in an empty environment; the .deb installed and removed in a clean root
	@$(AS_ROOT) HARNESS_REQUIRE=install $(BIN)/pytest tests/install

REPEATS ?= 10
# WRITE=--write puts the tables of bench-checks, bench-clocks and bench-reports into docs/.
bench: setup ## what a maintenance costs, and that beside what others cost
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.maintenance
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.guardian
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.compare $(REPEATS)

bench-checks: setup ## what all checks on together add to a maintenance
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.checks $(WRITE)

bench-clocks: setup ## how right clocks get, how fast, and what others make of them
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.clocks $(WRITE)

bench-compare: setup ## beside virsh, libvirt-guests and the floor; writes docs/explanation/performance.md
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.compare $(REPEATS) $(if $(MINUTES),--minutes $(MINUTES))

bench-events: setup ## what telling guests costs: load, approval to pause
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.events $(GUESTS)

bench-kernel: setup ## a host's kernel replaced under guests, in an emulated box: what each part takes
	@$(BIN)/python -P -m benchmarks.kernel

bench-qemu: setup ## a guest's pause while its QEMU is replaced, beside other ways
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.qemu $(REPEATS)

COUNTS ?= 8 16 32 64
bench-scale: setup ## what it costs by the number of guests; WRITE=--write: docs/explanation/scale.md
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.scale $(COUNTS) $(WRITE) \
		$(if $(MINUTES),--minutes $(MINUTES))

bench-fleet: setup ## what a rollout costs the controller and the database; STUBS=, SSH=, PARTS=; WRITE=--write
	@scripts/ansible-core
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.fleet $(if $(STUBS),--stubs $(STUBS)) \
		$(if $(SSH),--ssh $(SSH)) $(if $(PARTS),--parts $(PARTS)) $(ONCE) $(WRITE)

bench-reports: ## what reports and the history cost; needs no guests
	@$(BIN)/python -P -m benchmarks.reports $(WRITE) $(if $(RUNS),--runs $(RUNS))

N ?= 20
soak: setup ## kill N maintenances at random instants (SEED=, MINUTES=); strand nobody
	@$(ISOLATED) $(BIN)/python -P -m benchmarks.soak $(N) \
		$(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

map: ## write the list of modules in docs/map.md
	@$(BIN)/python -P -m scripts.module_map

reference: ## write docs/reference/: settings.md and the JSON schemas, collection.md
	@$(BIN)/python -P -m scripts.reference

# ROOM=clock.policy tries those of one module only: minutes in place of most of an hour.
mutants: ## break the critical section, clocks' policy and checks by rote: does a test notice?
	@mkdir -p mutants  # before Python starts: it remembers which folders of its path are none
	@PATH=$(CURDIR)/$(BIN):$$PATH PYTHONPATH=$(CURDIR)/mutants mutmut run --max-children 2 \
		$(if $(ROOM),'harness.$(ROOM).*')
	@$(BIN)/mutmut results | grep -F '$(if $(ROOM),harness.$(ROOM).)' || echo "no mutant is left"
