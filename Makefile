# Everything starts here. Each target fetches what it needs first; after that no network is used.
#   make demo ONCE=1      make test ARGS='-k hostile'
# A path is left to the shell, in quotes: make would cut it at a space.
MIRROR = $(if $(DEBIAN_MIRROR),--debian-mirror "$$DEBIAN_MIRROR")
FETCH = nix/fetch.py $(MIRROR) $(if $(DRIVER),--folder "$$DRIVER")
BUILD = nix/run nix build -L
TESTS = tests
ARGS =
CHECKS = contracts lint nix-files pages shell units manifest-current references-current worker-gpu-current
PYTEST = result-test/python/bin/python -m pytest

.PHONY: demo test test-long test-install test-go test-gpu-image test-kernel-fuzz test-faults vectors check images measurements manifest references policy-age reproduce release fetch lock bootstrap
.DEFAULT_GOAL := demo

demo: bootstrap
	$(FETCH) demo
	$(BUILD) -o result-demo .#demo
	result-demo/bin/demo $(if $(ONCE),--once) $(ARGS)

test: bootstrap
	$(FETCH) test-inputs
	$(BUILD) -o result-test .#test-inputs
	$(PYTEST) --ignore=tests/gpu_image --ignore=tests/install --ignore=tests/go -m 'not long' $(TESTS) $(ARGS)

# Tests on booted machines that take minutes each: a disk that goes bad, what each user inside a machine reaches.
test-long: bootstrap
	$(FETCH) test-inputs
	$(BUILD) -o result-test .#test-inputs
	$(PYTEST) -m long tests/e2e $(ARGS)

# The GPU worker's image, booted here without a GPU: it must refuse, and say why. Its kernel must have what the driver
# asks for. Its engine is checked without a GPU.
test-gpu-image: bootstrap
	$(FETCH) test-inputs worker debug-gpu-worker crypto-check engine-gpu-check
	$(BUILD) -o result-test .#test-inputs
	$(BUILD) -o result-worker .#worker
	$(BUILD) -o result-debug-gpu-worker .#debug-gpu-worker
	$(BUILD) -o result-crypto-check .#crypto-check
	$(BUILD) -o result-engine-check .#engine-gpu-check
	$(PYTEST) tests/gpu_image $(ARGS)

# The wheel, installed by this machine's own pip from its own index: what a laptop gets.
test-install: bootstrap
	$(FETCH) test-inputs wheel
	$(BUILD) -o result-test .#test-inputs
	$(BUILD) -o result-wheel .#wheel
	$(PYTEST) tests/install $(ARGS)

# Certificates of the mesh, read and used by a program in Go. Fetches 50 MB, and compiles for some minutes the first time.
test-go: bootstrap
	$(FETCH) test-env go-peer
	$(BUILD) -o result-test-env .#test-env
	$(BUILD) -o result-go-peer .#go-peer
	result-test-env/bin/python -m pytest tests/go $(ARGS)

# The kernel on machines of a hostile host: tables, memory and devices by chance, from a seed. Ends after so many
# machines or minutes, with an error if one damaged its memory.
test-kernel-fuzz: SEED = 1
test-kernel-fuzz: CASES = 500
test-kernel-fuzz: MINUTES = 45
test-kernel-fuzz: bootstrap
	$(FETCH) test-inputs linux
	$(BUILD) -o result-test .#test-inputs
	$(BUILD) -o result-linux .#linux
	PYTHONPATH=py:.:nix result-test/python/bin/python -m tests.fuzz.kernel \
		--tools result-test/qemu --kernel result-linux/vmlinuz \
		--seed $(SEED) --cases $(CASES) --minutes $(MINUTES) $(ARGS)

# Native programs that are killed, paused, cut off and so on, under 50 clients. Needs root, for a namespace of its own.
# Prints its seed; SEED=N makes the same steps again.
test-faults: SEED =
test-faults: STEPS = 200
test-faults: bootstrap
	$(FETCH) test-inputs
	$(BUILD) -o result-test .#test-inputs
	PYTHONPATH=py:. result-test/python/bin/python -m tests.faults $(if $(SEED),--seed $(SEED)) --steps $(STEPS) \
		--nft result-test/nftables/usr/sbin/nft \
		--faketime result-test/faketime/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 $(ARGS)

# The recorded evidence of real machines that tests compare with, into ~/.cache/confide/vectors: each file is fetched
# from the project that publishes it and checked by SHA-256. With FROM=FOLDER: from a copy at hand.
vectors:
	python3 -m tests.vectors.fetch $(if $(FROM),--from "$$FROM") $(ARGS)

# The committed manifest and references are what the source builds; Python, shell and Nix are checked.
check: bootstrap
	$(FETCH) $(CHECKS:%=.#checks.x86_64-linux.%)
	nix/run nix flake check .#

images measurements: bootstrap
	$(FETCH) $@
	$(BUILD) -o result-$@ .#$@

# Build the manifest and make it the one that clients pin. Review the difference before committing it.
manifest: bootstrap
	$(FETCH) manifest
	$(BUILD) -o result-manifest .#manifest
	cp --no-preserve=mode result-manifest release/development.json
	git --no-pager diff --stat -- release/development.json

# The same for the references of all images, the GPU worker's too, of which an operator makes his site's manifest:
# fetches 5 GB, and builds for ten minutes the first time.
references: bootstrap
	$(FETCH) release
	$(BUILD) -o result-release .#release
	cp --no-preserve=mode result-release/* release/
	git --no-pager diff --stat -- release

# Build every step again, with another core count, build folder and time of day, and compare. With the GPU worker:
# OUTPUTS='images measurements manifest release wheel'.
reproduce: OUTPUTS = images-without-gpu manifest wheel
reproduce: bootstrap
	$(FETCH) $(OUTPUTS)
	nix/reproduce.py $(OUTPUTS)

# What a release is: dated today (UTC), manifest and references made anew, everything checked, built twice and tested.
# Manifests expire 180 days after this date.
release: bootstrap policy-age
	echo $$(($$(date -u +%s) / 86400 * 86400)) >release/released
	$(MAKE) manifest references
	$(MAKE) check
	$(MAKE) reproduce OUTPUTS='images measurements manifest release wheel'
	$(MAKE) test-install test test-long test-go test-gpu-image test-kernel-fuzz test-faults

# Floors of firmware age: the policy must be at most 180 days old.
policy-age:
	nix/check_policy_age.py release/policy.json

# Everything, or OUTPUTS='proxy measure'.
fetch: bootstrap
	$(FETCH) $(OUTPUTS)

# Lock the present versions on this machine's apt mirror and pip index; prints what changed.
# With DRIVER=FOLDER: only the driver, from NVIDIA's own packages in that folder; other targets fetch them from there.
lock: bootstrap
	nix/lock.py $(MIRROR) $(if $(DRIVER),--driver "$$DRIVER") $(ARGS)

bootstrap:
	@.ci/bootstrap
