# Everything starts here. Each target fetches what it needs first; after that no network is used.
#   make demo ONCE=1      make test ARGS='-k hostile'
FETCH = nix/fetch.py $(if $(DEBIAN_MIRROR),--debian-mirror $(DEBIAN_MIRROR))
BUILD = nix/run nix build -L
TESTS = tests
ARGS =

.PHONY: demo test check images measurements manifest reproduce release fetch lock bootstrap
.DEFAULT_GOAL := demo

demo: bootstrap
	$(FETCH) demo
	$(BUILD) -o result-demo .#demo
	result-demo/bin/demo $(if $(ONCE),--once) $(ARGS)

test: bootstrap
	$(FETCH) test-inputs
	$(BUILD) -o result-test .#test-inputs
	CONFIDE_IMAGES=$(CURDIR)/result-test/images CONFIDE_MODEL=$(CURDIR)/result-test/model \
	CONFIDE_MANIFEST=$(CURDIR)/result-test/manifest CONFIDE_QEMU=$(CURDIR)/result-test/qemu \
	CONFIDE_DEBUG_IMAGE=$(CURDIR)/result-test/debug-image CONFIDE_FIRMWARE=$(CURDIR)/result-test/firmware \
	CONFIDE_MODEL_TOOLS=$(CURDIR)/result-test/model-tools \
	CONFIDE_ACPI_TABLES=$(CURDIR)/result-test/acpi-tables \
	CONFIDE_SYSTEMD_MEASURE=$(CURDIR)/result-test/systemd-measure/usr/lib/systemd/systemd-measure \
	result-test/python/bin/python -m pytest -c py/pyproject.toml --rootdir=. $(TESTS) $(ARGS)

# The committed manifest is what the source builds; the Python is linted and typed.
check: bootstrap
	$(FETCH) manifest test-env
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

# Build every step of the images again, with another core count, build folder and time of day, and compare.
reproduce: bootstrap
	$(FETCH) images measurements manifest
	nix/reproduce.py images measurements manifest

# What a release is: manifest current, everything checked, built twice and tested.
release: manifest check reproduce test

# Everything, or OUTPUTS='proxy measure'.
fetch: bootstrap
	$(FETCH) $(OUTPUTS)

# Lock the present versions on this machine's apt mirror and pip index; prints what changed.
lock: bootstrap
	nix/lock.py $(if $(DEBIAN_MIRROR),--debian-mirror $(DEBIAN_MIRROR)) $(ARGS)

bootstrap:
	@.ci/bootstrap
