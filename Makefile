# Cleave: everything a user or CI calls. `make` alone prints the list.
#
# Scripts in .ci do what takes more than a line; each says in its first lines how it is called.
#   with-headers   compiles, told of the optional headers that this machine has
#   require        installs the Debian packages that are missing
#   own-session    runs a measuring program where other work on the terminal disturbs it least
#   pack-library   lays out what `make lib` built     man-stubs   finds man pages by function
#   library-facts  what `make abi` prints             run         what continuous integration runs
SWIFT ?= swift
# Every build: with the headers that are found when it starts.
COMPILE := .ci/with-headers $(SWIFT)
TEST := .ci/swift-test $(COMPILE) test
PROGRAM := .build/release/cleave-bench
SOURCES := Package.swift Benchmarks/Package.swift Sources Tests Benchmarks/Sources \
    Benchmarks/Micro/Package.swift Benchmarks/Micro/Benchmarks
# Debian's packages: to build, and to compare with other people's rings.
NEEDED := pkg-config libnuma-dev
RIVALS := g++ libdpdk-dev libboost-dev
COUNTERS := valgrind binutils
CHECKERS := spin gcc
GUEST := qemu-system-x86 busybox-static cpio
# Other people's guests, and what is needed to run them.
PEER_GUESTS := $(GUEST) dpdk-dev python3-minimal user-mode-linux iperf3 ethtool iproute2 kmod gcc \
    libc6-dev
# What `make test` runs of Tests/Peers: some minutes.
TEST_PEERS := testpmd-io uml-pair two-hosts packet-socket qemu-guest:1 qemu-server
# A driver that was written from the protocol's page alone.
INDEPENDENT := python3
# Kernels and modules for `make test-guest`.
KERNEL_BUILD := make gcc flex bison bc xz-utils libelf-dev
KERNEL ?= 6.1

# The C library: everything it needs of Swift is inside, and nothing that its interface does not
# lead to (CLEAVE_LIBRARY). lld, because it exports nothing beyond the map; nodelete, because the
# Swift runtime cannot be unloaded.
VERSION := 0.2.0
PROGRAMS := .build/programs
DEB := .build/deb
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BINUTILS_STRIP ?= strip
LIBRARY := .build/lib
LIBRARY_BUILD := $(COMPILE) build -c release -Xswiftc -static-stdlib -Xswiftc -DCLEAVE_LIBRARY \
    -Xswiftc -use-ld=lld -Xlinker -soname=libcleave.so.0 -Xlinker -z -Xlinker nodelete \
    -Xlinker --version-script=Sources/CCleave/cleave.map --scratch-path
# Where the dynamic loader looks first on processors with AVX2 and BMI: the library built for them.
WIDE := glibc-hwcaps/x86-64-v3
HAS_WIDE := $(filter x86_64,$(shell uname -m))
# make bench MARCH=x86-64-v3: the same for the program, which is built for every x86-64 otherwise.
MARCH_FLAGS := $(if $(MARCH),-Xcc -march=$(MARCH))

.DEFAULT_GOAL := help
.PHONY: help deps build bench test test-tsan format lint docs bench-rings bench-parser \
    bench-micro bench-dpdk lib abi programs install install-files install-programs \
    install-library deb test-deb test-newer clean needed test-needed model test-model numa-test count \
    count-update profile profile-overhead probe plain-probe check test-conformance test-peers \
    test-guest soak bench-switch bench-switch-uml \
    bench-watched bench-zerocopy fuzz

help:
	@echo 'make deps         installs the Debian packages that builds need (as root, or by sudo)'
	@echo 'make build        release build: cleave-bench and cleave-vhost in .build/release'
	@echo 'make bench        the main job on configs/bench/default.yaml (BENCH_ARGS="--json FILE")'
	@echo '                  MARCH=x86-64-v3 builds for processors with AVX2, as libcleave is'
	@echo 'make check        two minutes of it: style, house rules, unit tests (FILTER=REGEX picks)'
	@echo 'make test         all of: style, unit and stress tests, ThreadSanitizer, models, docs'
	@echo 'make test-tsan    ring and stress tests under ThreadSanitizer alone'
	@echo 'make model        the header queue protocol, every state, and that seeded bugs are found'
	@echo 'make test-model   interleavings of the shared words, every schedule up to a bound'
	@echo 'make fuzz         fuzzers of messages, rings and headers, SECONDS=60 each'
	@echo 'make count        instructions per packet beside the recorded ones; count-update records'
	@echo 'make numa-test    the engine in a guest of 2 NUMA nodes: threads and pages in their places'
	@echo 'make test-conformance  an independent driver in 100 random runs (RUNS=N SEED=N)'
	@echo 'make test-peers   cleave-vhost with guests of DPDK, Linux, QEMU (PEERS="uml-pair" picks)'
	@echo 'make test-guest   the Linux driver of the header queue in real kernels (KERNEL=6.12)'
	@echo 'make soak         guests that die and return for 10 minutes (SECONDS=N), nothing leaks'
	@echo 'make profile      cycles of each stage of the receive path (PROFILE_ARGS="--svg FILE")'
	@echo 'make profile-overhead  what profiling costs: on, and off against compiled out'
	@echo 'make bench-rings  SPSC ring beside rte_ring and boost (BENCH_ARGS="--json FILE")'
	@echo 'make bench-parser header parser beside rte_net_get_ptype (BENCH_ARGS="--json FILE")'
	@echo 'make bench-micro  parts of the path by themselves, beside rivals'
	@echo 'make bench-dpdk   libcleave beside rte_vhost on the same virtqueues (JSON=FILE)'
	@echo 'make bench-switch cleave-vhost beside testpmd between the same two guests (JSON=FILE)'
	@echo 'make bench-switch-uml  the same between two Linux guests, TCP by iperf3 (JSON=FILE)'
	@echo 'make bench-watched  what it costs a switch to be watched, or attacked (JSON=FILE)'
	@echo 'make bench-zerocopy  TCP mapped against copied (THROUGH=tap, uml or qemu; JSON=FILE)'
	@echo 'make lib          the C library, shared and static, in $(LIBRARY)'
	@echo 'make abi          what linking with it costs: time to load, size, what it needs'
	@echo 'make programs     both programs without need of Swift at run time, in $(PROGRAMS)'
	@echo 'make install      programs, library, man pages, completions, configs (PREFIX= DESTDIR=)'
	@echo 'make deb          the same as Debian packages, in $(DEB)'
	@echo 'make test-deb     installs them in a Debian 12 of its own, and runs them there'
	@echo 'make test-newer   the example on DPDK 24.11, and the filter of system calls on newer libc'
	@echo 'make format       rewrite sources in house style; make lint only checks'
	@echo 'make docs         DocC pages in .build/docs'
	@echo 'make clean        remove everything built'

# What builds need is asked for, and installed by `make deps` alone and by the two commands that do
# everything: `make bench` and `make test`.
needed:
	@.ci/require --check $(NEEDED)
	@command -v $(SWIFT) >/dev/null || { echo 'there is no $(SWIFT): install Swift 6.3 (swift.org),' \
	    'or say where it is: make SWIFT=PATH' >&2; exit 1; }

deps:
	@.ci/require $(NEEDED)

# All that any part of `make test` asks for, before the first of them builds: what came later would
# have everything built once more.
test-needed:
	@.ci/require $(NEEDED) $(COUNTERS) $(CHECKERS)
	@.ci/require --optional libdpdk-dev systemtap-sdt-dev groff-base
	@.ci/require --optional chromium prometheus tmux
	@.ci/require --optional tshark
	@.ci/require --optional systemd
	@.ci/require --optional rustc
	@.ci/require --optional $(INDEPENDENT)
	@.ci/require --optional $(GUEST)
	@.ci/require --optional $(PEER_GUESTS)
	@.ci/require --optional $(KERNEL_BUILD)

build: needed
	$(COMPILE) build -c release $(MARCH_FLAGS) --product cleave-bench
	$(COMPILE) build -c release $(MARCH_FLAGS) --product cleave-vhost

bench: deps
	@$(MAKE) --no-print-directory needed
	$(COMPILE) build -c release $(MARCH_FLAGS) --product cleave-bench
	@.ci/own-session $(PROGRAM) $(BENCH_ARGS)

profile: build
	@.ci/own-session $(PROGRAM) profile $(PROFILE_ARGS)

# Builds without the trait Profiling, in a directory of their own.
PLAIN := $(COMPILE) build -c release --disable-default-traits --scratch-path .build-plain

# The hot loop under counters, and what tests compare its machine code with.
probe: needed
	$(COMPILE) build -c release --product hot-loop-probe

plain-probe: needed
	$(PLAIN) --product hot-loop-probe

profile-overhead: build
	$(PLAIN) --product cleave-bench
	@.ci/own-session $(PROGRAM) profile overhead --against .build-plain/release/cleave-bench \
	    $(PROFILE_ARGS)

# What is quick and needs no release build. FILTER=REGEX picks other tests, `Suite/function()`.
FILTER ?= ^(TidyTests|HostTests|RingsTests|VirtioNetTests|GuestDriverTests|TrafficTests)[.]
check: needed lint
	$(TEST) --filter '$(FILTER)'

# The release build comes first: tests disassemble it to see what the hot loop became.
test: test-needed
	@echo '== style'
	$(MAKE) --no-print-directory lint
	@echo '== release build (its machine code is tested below)'
	$(COMPILE) build -c release --product cleave-bench
	$(COMPILE) build -c release --product cleave-vhost
	$(COMPILE) build -c release --product hot-loop-probe
	$(MAKE) --no-print-directory plain-probe
	@echo '== instructions per packet'
	$(MAKE) --no-print-directory count
	@echo '== C library'
	$(MAKE) --no-print-directory lib
	@echo '== tests'
	$(TEST)
	@echo '== ThreadSanitizer'
	$(MAKE) --no-print-directory test-tsan
	@echo '== interleavings'
	$(MAKE) --no-print-directory test-model
	@echo '== model of the header queue'
	$(MAKE) --no-print-directory model
	@echo '== the protocol, by an independent driver'
	$(MAKE) --no-print-directory test-conformance
	@echo '== NUMA guest'
	$(MAKE) --no-print-directory numa-test
	@echo '== real peers'
	$(MAKE) --no-print-directory test-peers PEERS='$(TEST_PEERS)'
	@echo '== the Linux driver in guests'
	$(MAKE) --no-print-directory test-guest
	@echo '== documentation'
	$(MAKE) --no-print-directory docs
	@echo '== passed: style, release build, instruction counts, tests, ThreadSanitizer,' \
	    'interleavings, model, conformance, NUMA, real peers, guests, docs'

# A build directory of its own: instrumented and plain objects do not mix.
test-tsan: needed
	TSAN_OPTIONS="halt_on_error=1 $(TSAN_OPTIONS)" $(TEST) --sanitize=thread \
	    --scratch-path .build-tsan --filter RingsTests --filter StressTests \
	    --filter '^SwitchTests' \
	    --filter 'CFunctions/(ConcurrencyTests|PairTests)'

# Instructions per packet under valgrind, the same on every x86-64 machine: Tests/Baselines/count.
COUNT := Tests/Baselines/count .build/release/hot-loop-probe .build-count \
    Tests/Baselines/instructions.json
count count-update: needed
	@.ci/require $(COUNTERS)
	$(COMPILE) build -c release --product hot-loop-probe
	@SWIFT=$(SWIFT) $(COUNT) $(if $(filter count-update,$@),--update)

# NAMES picks cases: see Tests/Models/check.
model:
	@.ci/require $(CHECKERS)
	@Tests/Models/check $(NAMES)

# A build of its own, where each access to a shared word asks a scheduler.
test-model: needed
	$(TEST) --package-path Tests/ModelTests --scratch-path .build-model -Xswiftc -O

# libFuzzer and AddressSanitizer are in Swift's toolchain; of several -sanitize the compiler takes
# the last one alone. Assertions stay, optimised or not.
fuzz: needed
	$(COMPILE) build -c release --sanitize fuzzer --sanitize address \
	    -Xswiftc -sanitize=fuzzer,address -Xswiftc -DCLEAVE_FUZZ \
	    -Xswiftc -assert-config -Xswiftc Debug \
	    --scratch-path .build-fuzz --product fuzz
	@Tests/Fuzz/run .build-fuzz/release/fuzz $(or $(SECONDS),60)

# Skipped, with the reason, where QEMU or a kernel for the guest cannot be had.
numa-test: build
	@.ci/require --optional $(GUEST)
	@Tests/NUMA/numa-test $(PROGRAM) .build-numa

# Skipped, with the reason, where Python cannot be had: Tests/Conformance/README.md.
test-conformance: needed
	@.ci/require --optional $(INDEPENDENT)
	$(COMPILE) build -c release --product cleave-vhost
	@if command -v python3 >/dev/null; then \
	    timeout -k 10 900 python3 Tests/Conformance/conformance.py --program .build/release/cleave-vhost \
	        --runs $(or $(RUNS),100) --seed $(or $(SEED),1) || [ $$? -eq 77 ]; \
	else echo 'skipped: there is no python3'; fi

# Skipped, with the reason, where a peer cannot be had: Tests/Peers/README.md.
test-peers: needed
	@.ci/require --optional $(PEER_GUESTS)
	$(COMPILE) build -c release --product cleave-vhost
	@Tests/Peers/run --program .build/release/cleave-vhost $(PEERS) || [ $$? -eq 77 ]

# Not part of `make test`.
soak:
	@$(MAKE) --no-print-directory test-peers PEERS='soak:$(or $(SECONDS),600)'

# Skipped, with the reason, where a kernel or QEMU cannot be had: Tests/Guest/README.md.
test-guest: needed
	@.ci/require --optional $(PEER_GUESTS) $(KERNEL_BUILD)
	$(COMPILE) build -c release --product cleave-bench
	$(COMPILE) build -c release --product cleave-vhost
	@KERNEL=$(KERNEL) Tests/Peers/run --folder Tests/Guest --program .build/release/cleave-vhost \
	    $(GUESTS) || [ $$? -eq 77 ]

format:
	$(SWIFT) format format --in-place --parallel --recursive $(SOURCES)

lint:
	$(SWIFT) format lint --strict --parallel --recursive $(SOURCES)

# A build directory of its own: documentation is built with every trait, tests are not.
# Modules whose public declarations programs may build on, and `CleavePorts`, which shows how to write
# a port: a page each, joined in one site.
DOCUMENTED := CleaveEngine CleaveProfiling CleaveVirtioNet CleaveRings CleaveHost CleaveTraffic \
    CleaveGuestDriver CleavePorts
docs: needed
	CLEAVE_PAGES=1 $(COMPILE) package --scratch-path .build-docs --allow-writing-to-directory .build/docs \
	    generate-documentation $(DOCUMENTED:%=--target %) --output-path .build/docs \
	    --enable-experimental-combined-documentation \
	    --transform-for-static-hosting --warnings-as-errors

# SwiftPM adds to an archive: what a source that is gone had left in it would be there twice.
lib: needed
	@rm -f .build-lib/release/libcleave-static.a
	$(LIBRARY_BUILD) .build-lib --product cleave
	$(LIBRARY_BUILD) .build-lib --product cleave-static
	@.ci/pack-library .build-lib/release $(LIBRARY) $(VERSION) Sources/CCleave/cleave.map
ifneq ($(HAS_WIDE),)
	$(LIBRARY_BUILD) .build-lib-v3 -Xcc -march=x86-64-v3 --product cleave
	@mkdir -p $(LIBRARY)/$(WIDE)
	@cp .build-lib-v3/release/libcleave.so $(LIBRARY)/$(WIDE)/libcleave.so.0
endif

abi: lib
	@.ci/require gcc binutils
	@.ci/library-facts $(LIBRARY)/libcleave.so.0
	@for wide in $(LIBRARY)/$(WIDE)/libcleave.so.0; do \
	    if [ -e $$wide ]; then echo; .ci/library-facts $$wide; fi; done

# Programs that need no Swift where they run. A build directory of its own: what is linked is other.
PROGRAM_BUILD := $(COMPILE) build -c release --static-swift-stdlib $(MARCH_FLAGS) \
    --scratch-path .build-programs --product
programs: needed
	$(PROGRAM_BUILD) cleave-bench
	$(PROGRAM_BUILD) cleave-vhost
	@for program in cleave-bench cleave-vhost; do \
	    .ci/program-files .build-programs/release/$$program $(VERSION) $(PROGRAMS); done

install: lib programs
	@$(MAKE) --no-print-directory install-files

# Of what `make lib` and `make programs` built.
install-files: install-programs install-library

CONFIGS := $(wildcard configs/*/*.yaml configs/*/*.pcap configs/*/*.pcapng configs/*/*.bt \
    configs/systemd/*.conf configs/metrics/*.json configs/schema/*.json)
install-programs:
	install -d $(DESTDIR)$(PREFIX)/bin
	for program in cleave-bench cleave-vhost; do \
	    install -m 755 $(PROGRAMS)/bin/$$program $(DESTDIR)$(PREFIX)/bin; \
	    $(BINUTILS_STRIP) $(DESTDIR)$(PREFIX)/bin/$$program; done
	cd $(PROGRAMS) && find share -type f -exec install -D -m 644 {} $(abspath \
	    $(DESTDIR)$(PREFIX))/{} ';'
	for file in $(CONFIGS); do \
	    install -D -m 644 $$file $(DESTDIR)$(PREFIX)/share/cleave/$$file; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/qemu/vhost-user
	sed -e 's|/usr/local/|$(PREFIX)/|' configs/systemd/cleave-vhost.service \
	    > $(DESTDIR)$(PREFIX)/lib/systemd/system/cleave-vhost.service
	install -m 644 configs/systemd/cleave-vhost@.socket $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed -e 's|/usr/local/|$(PREFIX)/|' configs/qemu/50-cleave-vhost.json \
	    > $(DESTDIR)$(PREFIX)/share/qemu/vhost-user/50-cleave-vhost.json

install-library:
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(LIBDIR)/pkgconfig \
	    $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 Sources/CCleave/include/cleave.h $(DESTDIR)$(PREFIX)/include
	install -m 755 $(LIBRARY)/libcleave.so.$(VERSION) $(DESTDIR)$(LIBDIR)
	$(BINUTILS_STRIP) --strip-unneeded $(DESTDIR)$(LIBDIR)/libcleave.so.$(VERSION)
	ln -sf libcleave.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libcleave.so.0
	ln -sf libcleave.so.0 $(DESTDIR)$(LIBDIR)/libcleave.so
	install -m 644 $(LIBRARY)/libcleave.a $(DESTDIR)$(LIBDIR)
ifneq ($(HAS_WIDE),)
	install -d $(DESTDIR)$(LIBDIR)/$(WIDE)
	install -m 755 $(LIBRARY)/$(WIDE)/libcleave.so.0 $(DESTDIR)$(LIBDIR)/$(WIDE)
	$(BINUTILS_STRIP) --strip-unneeded $(DESTDIR)$(LIBDIR)/$(WIDE)/libcleave.so.0
endif
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
	    Sources/CCleave/cleave.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/cleave.pc
	install -m 644 Sources/CCleave/man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3
	@.ci/man-stubs Sources/CCleave/man $(DESTDIR)$(PREFIX)/share/man/man3

# Debian packages: cleave (programs), libcleave0, libcleave-dev.
deb: lib programs
	@.ci/require --check dpkg-dev
	@rm -rf $(DEB)
	$(MAKE) --no-print-directory install-files DESTDIR=$(abspath $(DEB))/root PREFIX=/usr \
	    LIBDIR=/usr/lib/$$(dpkg-architecture -qDEB_HOST_MULTIARCH)
	@.ci/debian-packages $(DEB) $(VERSION)

# Skipped, with the reason, where there is no root, debootstrap or archive.
test-deb: deb
	@.ci/require --optional debootstrap
	@Tests/Debian/run $(DEB) .build-debian || [ $$? -eq 77 ]

# The same for DPDK and libc of a newer Debian, whose packages are unpacked only.
test-newer: lib programs
	@Tests/Debian/newer $(or $(SUITE),trixie) $(LIBRARY) $(PROGRAMS) .build-debian || [ $$? -eq 77 ]

# JSON=FILE writes the figures there too. FILE is relative to the top.
bench-dpdk: lib
	@.ci/require libdpdk-dev gcc pkg-config
	$(MAKE) --no-print-directory -C Benchmarks dpdk $(if $(JSON),JSON=$(abspath $(JSON)))

bench-switch: needed
	@.ci/require --optional dpdk-dev libdpdk-dev gcc pkg-config
	$(COMPILE) build -c release --product cleave-vhost
	@.ci/own-session Benchmarks/Switch/bench-switch --program .build/release/cleave-vhost \
	    $(if $(JSON),--json $(JSON)) $(BENCH_ARGS)

bench-switch-uml: needed
	@.ci/require --optional $(PEER_GUESTS)
	$(COMPILE) build -c release --product cleave-vhost
	@.ci/own-session Benchmarks/Switch/bench-uml --program .build/release/cleave-vhost \
	    $(if $(JSON),--json $(JSON)) $(BENCH_ARGS)

bench-watched: needed
	@.ci/require --optional $(INDEPENDENT)
	$(COMPILE) build -c release --product cleave-vhost
	@.ci/own-session Benchmarks/Switch/bench-watched --program .build/release/cleave-vhost \
	    $(if $(JSON),--json $(JSON)) $(BENCH_ARGS)

# Through guests it is skipped, with the reason, where a kernel or QEMU cannot be had.
THROUGH ?= tap
bench-zerocopy: build
	$(if $(filter tap uml qemu,$(THROUGH)),,$(error THROUGH=$(THROUGH) is not tap, uml or qemu))
ifeq ($(THROUGH),tap)
	@.ci/require --optional iproute2
	@.ci/own-session $(PROGRAM) zerocopy $(if $(JSON),--json $(JSON)) $(BENCH_ARGS)
else
	@.ci/require --optional $(PEER_GUESTS) $(KERNEL_BUILD)
	@KERNEL=$(KERNEL) ZEROCOPY_ARGS='$(if $(JSON),--json $(JSON)) $(BENCH_ARGS)' \
	    Tests/Guest/$(THROUGH) --program .build/release/cleave-vhost zerocopy
endif

bench-parser:
	@.ci/require --optional libdpdk-dev gcc pkg-config
	$(MAKE) --no-print-directory -C Benchmarks parser

# The first time, building the benchmark package takes some minutes.
bench-micro: needed
	@.ci/require --optional $(RIVALS) pkg-config
	$(MAKE) --no-print-directory -C Benchmarks micro

bench-rings: needed
	@.ci/require --optional $(RIVALS) pkg-config
	$(MAKE) --no-print-directory -C Benchmarks rings

clean:
	rm -rf .build .build-plain .build-tsan .build-lib .build-lib-v3 .build-model .build-docs \
	    .build-numa .build-count .build-fuzz .build-programs .build-debian
	$(MAKE) --no-print-directory -C Benchmarks clean
