# SPDX-License-Identifier: Apache-2.0
# Sallyport. `make demo` shows it, `make check` tests it, `make help` lists the rest.

VERSION := 0.1.0
PREFIX  ?= /usr
SYSCONFDIR ?= /etc
DESTDIR ?=
CC      ?= cc
ifeq ($(origin CC),default)
CC := gcc
endif
FUZZ_CC ?= clang
SAN     ?=
comma   := ,

B := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla $(if $(WERROR),-Werror)
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection $(if $(SAN),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
OPT ?= -O2
CFLAGS ?= $(OPT) -g
override CPPFLAGS += -D_GNU_SOURCE -I. -DSALLYPORT_VERSION='"$(VERSION)"' -DSALLYPORT_SYSCONFDIR='"$(SYSCONFDIR)/sallyport"'
override CFLAGS += -std=c11 $(WARN) $(HARDEN) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
override LDFLAGS += -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(if $(SAN),-fsanitize=$(SAN))

all: $(B)/sallyportd $(B)/gwctl

# ---- objects, one list per folder ------------------------------------------------------------
BASE_O    := $(addprefix gateway/base/, addr.o buf.o clock.o errs.o esc.o hash.o log.o mem.o spiffe.o uuid.o)
HTTP1_O   := $(addprefix gateway/http1/, body.o field.o head.o target.o)
POLICY_O  := $(addprefix policy/, compile.o emit.o explain.o intern.o match.o method.o model.o open.o pattern.o says.o sets.o \
	shadow.o trie.o)
PKI_O     := $(addprefix pki/, digest.o estcert.o lifetime.o pkcs7.o svid.o svid_bundle.o svid_cert.o svid_crl.o svid_crlfile.o svid_recheck.o)
CA_O      := $(addprefix pki/, ca.o ca_bundle.o ca_init.o ca_issue.o ca_revoke.o ca_rotate.o cert.o crl.o csr.o est.o estreq.o jwks.o ledger.o pairfile.o pairing.o pairing_entry.o pkey.o pkifile.o store.o svid_vouch.o token.o) # gwctl's and the ca role's, never a gateway's
# What of it issues: the ca role's.
ISSUE_O   := $(addprefix pki/, ca.o ca_bundle.o ca_init.o ca_issue.o ca_revoke.o cert.o crl.o csr.o est.o jwks.o ledger.o pkey.o pkifile.o store.o token.o)
PROCESS_O := $(addprefix gateway/process/, child.o ipc.o memfd.o privs.o role.o sandbox.o spawn.o)
CONFIG_O  := pki/keyfit.o $(addprefix gateway/config/, check.o check_enrol.o check_hsm.o check_identity.o check_listeners.o check_peers.o check_services.o config.o dump.o host.o \
	image.o lookup.o options.o origin.o p11uri.o parse.o policy_files.o reread.o source.o trust.o value.o)
IO_O      := $(addprefix gateway/io/, conn.o loop.o outq.o)
CAROLE_O  := $(addprefix gateway/ca/, client.o proto.o role.o)
KEYS_O    := $(addprefix gateway/keys/, client.o csr.o held.o helper.o hsm.o ident.o proto.o provider.o role.o token.o)
AUDIT_O   := $(addprefix gateway/audit/, batch.o digest.o event.o flood.o inflight.o journal.o journal_role.o lanes.o merkle.o \
	parse.o reconcile.o record.o ring.o schema.o segment.o store.o verify.o)
TLS_O     := $(addprefix gateway/tls/, bio.o conn.o env.o layer.o verify.o)
HTTP2_O   := $(addprefix gateway/http2/, block.o pool.o session.o stream.o)
LINK_O      := $(addprefix gateway/link/, caller.o crl.o dial.o hello.o identity.o ids.o judge.o link.o quarantine.o send.o set.o standing.o vouch.o)
UPSTREAM_O := $(addprefix gateway/upstream/, http1.o tcp.o upstream.o)
ENROL_O   := $(addprefix gateway/enrol/, enrol.o forward.o hello.o note.o peek.o renew.o wire.o) # wire.o is gwctl's, too
EXCHANGE_O := $(addprefix gateway/exchange/, accept.o books.o exchange.o h1.o h2.o owner.o relay.o route.o tcp.o verify.o)
CONTROL_O := $(addprefix gateway/control/, client.o command.o merge.o role.o)
MAIN_O    := $(addprefix gateway/main/, children.o compile.o expiry.o journal_main.o listen.o main.o master.o note.o notify.o reload.o renew.o roles.o setup.o state.o status.o trust.o worker.o worker_est.o worker_trust.o)
GWCTL_O   := $(addprefix tools/gwctl/, cmd_audit.o cmd_audit_read.o cmd_check.o cmd_config.o cmd_control.o cmd_enrol.o cmd_enrol_tls.o cmd_pair.o cmd_pair_list.o cmd_pair_peers.o cmd_pair_remove.o cmd_pki.o cmd_pki_issue.o cmd_pki_list.o cmd_pki_name.o cmd_pki_revoke.o cmd_pki_rotate.o cmd_pki_secret.o cmd_policy.o \
	cmd_status.o cmd_token.o gwctl.o jsonout.o main.o request.o socket_scan.o table.o)

# ---- programs --------------------------------------------------------------------------------
LIB_SSL := -lssl -lcrypto
SALLYPORTD_O := $(MAIN_O) $(CONTROL_O) $(EXCHANGE_O) $(ENROL_O) $(UPSTREAM_O) $(LINK_O) $(HTTP2_O) $(TLS_O) $(AUDIT_O) $(CAROLE_O) $(KEYS_O) \
	$(IO_O) $(CONFIG_O) $(PROCESS_O) $(ISSUE_O) $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O)
SALLYPORTD_L := -levent_core -lnghttp2 -lconfig -ljansson -lseccomp $(LIB_SSL)
GWCTL_ALL_O := $(GWCTL_O) gateway/enrol/wire.o $(AUDIT_O) $(CONFIG_O) $(CA_O) $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O)
GWCTL_L := -lconfig -ljansson $(LIB_SSL)

$(B)/sallyportd: $(addprefix $(B)/,$(SALLYPORTD_O))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(SALLYPORTD_L)
$(B)/gwctl: $(addprefix $(B)/,$(GWCTL_ALL_O))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(GWCTL_L)

$(B)/%.o: %.c | deps
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- unit tests: T_<folder>_<name> lists what the test links, which proves the layering --------
UNIT :=
define unit # name (folder/test_x), objects, libraries
UNIT += $(1)
$$(B)/tests/unit/$(1): $$(B)/tests/unit/$(1).o $$(addprefix $$(B)/,$(2))
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $(3) -lcmocka
endef

CONTROL_TEST_O := $(addprefix gateway/audit/, event.o ring.o) $(PROCESS_O) $(CONFIG_O) $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O)
# (one line per test:  $(eval $(call unit,base/test_addr,$(BASE_O),)) )
$(foreach t,addr buf clock errs esc hash log spiffe uuid,$(eval $(call unit,base/test_$t,$(BASE_O),)))
$(foreach t,body field head target,$(eval $(call unit,http1/test_$t,$(HTTP1_O) $(addprefix gateway/base/, mem.o),)))
ZOO_O := tests/unit/pki/zoo.o
$(foreach t,compile explain match open pattern,$(eval $(call unit,policy/test_$(t),$(POLICY_O) $(HTTP1_O) $(BASE_O),)))
$(foreach t,ipc memfd privs sandbox,$(eval $(call unit,process/test_$t,$(PROCESS_O) $(BASE_O),-lseccomp)))
$(eval $(call unit,main/test_master,tests/unit/main/hostile.o $(ZOO_O) $(filter-out %/main.o %/worker.o %/worker_est.o %/worker_trust.o,$(MAIN_O)) $(CONTROL_O) $(filter-out %/client.o,$(CAROLE_O)) $(ISSUE_O) $(KEYS_O) $(AUDIT_O) \
	$(CONFIG_O) $(PROCESS_O) $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O),-lconfig -ljansson -lseccomp $(LIB_SSL)))
$(eval $(call unit,main/test_state,gateway/main/state.o $(BASE_O),))
$(eval $(call unit,gwctl/test_socket_scan,tools/gwctl/socket_scan.o $(addprefix gateway/base/, buf.o mem.o),))
$(eval $(call unit,control/test_control,$(CONTROL_O) $(CONTROL_TEST_O),-lconfig -ljansson -lseccomp -lcrypto))
$(eval $(call unit,pki/test_digest,pki/digest.o $(BASE_O),-lcrypto))
$(eval $(call unit,pki/test_lifetime,pki/lifetime.o,))
$(eval $(call unit,pki/test_svid,$(ZOO_O) $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call unit,pki/test_svid_crl,$(ZOO_O) $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call unit,pki/test_csr,$(ZOO_O) pki/csr.o $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call unit,pki/test_books,$(ZOO_O) $(CA_O) $(PKI_O) $(BASE_O),-ljansson -lcrypto))
$(eval $(call unit,pki/test_ca,$(ZOO_O) $(CA_O) $(PKI_O) $(BASE_O),-ljansson -lcrypto))
$(eval $(call unit,pki/test_pairing,$(ZOO_O) $(CA_O) $(PKI_O) $(BASE_O),-ljansson -lcrypto))
$(eval $(call unit,pki/test_est,$(ZOO_O) tests/unit/pki/estbed.o $(CA_O) $(PKI_O) $(BASE_O),-ljansson -lcrypto -Wl$(comma)--wrap=token_use))
$(eval $(call unit,ca/test_role,$(ZOO_O) tests/unit/pki/estbed.o $(addprefix gateway/ca/, proto.o role.o) $(addprefix gateway/audit/, event.o ring.o) \
	$(CA_O) $(addprefix gateway/config/, host.o image.o lookup.o options.o trust.o value.o) $(PROCESS_O) $(PKI_O) $(BASE_O),-ljansson -lseccomp -lcrypto -Wl$(comma)--wrap=config_decode))
$(eval $(call unit,ca/test_proto,gateway/ca/proto.o,))
$(eval $(call unit,ca/test_client,gateway/ca/client.o gateway/ca/proto.o gateway/process/ipc.o $(IO_O) $(BASE_O),-levent_core))
KEYS_BED_O := tests/unit/keys/bed.o $(ZOO_O)
$(eval $(call unit,keys/test_proto,gateway/keys/proto.o gateway/base/mem.o,))
$(eval $(call unit,keys/test_role,$(KEYS_BED_O) $(KEYS_O) $(PROCESS_O) $(BASE_O),-lseccomp $(LIB_SSL)))
$(eval $(call unit,keys/test_hsm,$(ZOO_O) $(KEYS_O) $(PROCESS_O) $(BASE_O),-lseccomp $(LIB_SSL)))
$(foreach t,tls enrol,$(eval $(call unit,tls/test_$t,tests/unit/tls/bed.o $(KEYS_BED_O) $(filter-out %/layer.o,$(TLS_O)) $(KEYS_O) $(PROCESS_O) $(PKI_O) $(BASE_O),-lseccomp $(LIB_SSL))))
CONFIG_TEST_O := tests/unit/config/fixture.o $(ZOO_O) $(CONFIG_O) $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O)
CONFIG_TEST_L := $(addprefix -Wl$(comma)--wrap=,getpwnam getgrnam getifaddrs freeifaddrs clock_wall_us) -lconfig -lcrypto
$(foreach t,config docs faults peers_dir policy_files,$(eval $(call unit,config/test_$(t),$(CONFIG_TEST_O),$(CONFIG_TEST_L))))
$(eval $(call unit,config/test_p11uri,gateway/config/p11uri.o $(addprefix gateway/base/, esc.o mem.o),))
$(eval $(call unit,config/test_value,gateway/config/value.o gateway/config/host.o gateway/base/addr.o,))
$(foreach t,http1 tcp,$(eval $(call unit,upstream/test_$t,tests/unit/upstream/bed.o $(UPSTREAM_O) $(IO_O) $(HTTP1_O) $(BASE_O),-levent_core)))
$(eval $(call unit,exchange/test_owner,gateway/exchange/owner.o,))
$(eval $(call unit,exchange/test_exchange,tests/unit/exchange/bed.o $(addprefix gateway/exchange/,exchange.o relay.o route.o books.o verify.o) gateway/link/caller.o \
	$(addprefix gateway/audit/,event.o ring.o) gateway/config/lookup.o pki/digest.o $(IO_O) $(POLICY_O) $(HTTP1_O) $(BASE_O),-levent_core -lcrypto))
AUDIT_TEST_O := tests/unit/audit/sample.o tests/unit/audit/book.o $(AUDIT_O) $(BASE_O)
$(foreach t,crash faults journal reconcile record ring tree verify,$(eval $(call unit,audit/test_$t,$(AUDIT_TEST_O),-lcrypto)))

$(eval $(call unit,io/test_outq,gateway/io/outq.o gateway/base/mem.o,))
$(foreach t,conn loop,$(eval $(call unit,io/test_$t,$(IO_O) $(BASE_O),-levent_core)))
HTTP2_TEST_O := tests/unit/http2/bed.o $(HTTP2_O) $(IO_O) $(HTTP1_O) $(BASE_O)
$(foreach t,session hostile,$(eval $(call unit,http2/test_$t,$(HTTP2_TEST_O),-levent_core -lnghttp2)))
LINK_TEST_O := gateway/link/caller.o gateway/link/ids.o $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O)
$(foreach t,caller ids,$(eval $(call unit,link/test_$t,$(LINK_TEST_O),-lcrypto)))
$(eval $(call unit,link/test_dial,gateway/link/dial.o $(BASE_O),))
$(eval $(call unit,link/test_crl,$(ZOO_O) $(addprefix gateway/, link/crl.o link/quarantine.o audit/event.o) $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call unit,link/test_identity,$(ZOO_O) gateway/link/identity.o gateway/link/judge.o $(LINK_TEST_O),-lcrypto))
$(eval $(call unit,link/test_standing,$(ZOO_O) $(addprefix gateway/link/, judge.o standing.o) $(LINK_TEST_O),-lcrypto))
$(eval $(call unit,enrol/test_hello,gateway/enrol/hello.o,))
$(eval $(call unit,enrol/test_renew,$(ZOO_O) $(addprefix gateway/enrol/, note.o renew.o wire.o) $(addprefix gateway/audit/, event.o ring.o) $(CA_O) \
	$(PKI_O) $(IO_O) $(HTTP1_O) $(BASE_O),-levent_core -ljansson -lcrypto))
$(eval $(call unit,enrol/test_wire,gateway/enrol/wire.o $(HTTP1_O) $(BASE_O),))
unit: $(addprefix $(B)/tests/unit/,$(UNIT))
	$(Q)for t in $^; do $$t || exit 1; done

# ---- fuzz targets (libFuzzer) -----------------------------------------------------------------
FUZZ :=
FB := build/fuzz
FUZZ_FLAGS := -g -O1 -std=c11 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
$(FB)/%.o: %.c | fuzz-deps
	$(call say,FUZZCC,$<)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
define fuzz # name, objects, libraries
FUZZ += $(1)
$$(FB)/fuzz_$(1): $$(FB)/tests/fuzz/fuzz_$(1).o $$(addprefix $$(FB)/,$(2))
	$$(call say,LINK,$$@)
	$$(Q)$$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $$@ $$^ $(3)
endef

# (one line per target:  $(eval $(call fuzz,http1_head,$(HTTP1_O) $(BASE_O),)) )
$(eval $(call fuzz,svid,$(ZOO_O) $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call fuzz,crl,$(ZOO_O) $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call fuzz,ledger,pki/ledger.o pki/pkifile.o $(BASE_O),))
$(eval $(call fuzz,csr,$(ZOO_O) pki/csr.o $(PKI_O) $(BASE_O),-lcrypto))
$(eval $(call fuzz,pairfile,$(CA_O) $(PKI_O) $(BASE_O),-ljansson -lcrypto))
$(foreach t,http1_head http1_body,$(eval $(call fuzz,$t,$(HTTP1_O) $(addprefix gateway/base/, mem.o),)))
$(foreach t,policy_image policy_rules,$(eval $(call fuzz,$t,$(POLICY_O) $(BASE_O),)))
$(foreach t,addr spiffe,$(eval $(call fuzz,$t,$(BASE_O),)))
$(eval $(call fuzz,config_values,gateway/config/value.o gateway/config/host.o $(BASE_O),))
$(foreach t,config_image config_text,$(eval $(call fuzz,$t,$(CONFIG_O) $(PKI_O) $(POLICY_O) $(HTTP1_O) $(BASE_O),-lconfig -lcrypto)))
$(eval $(call fuzz,ipc,$(PROCESS_O) $(BASE_O),-lseccomp))
$(eval $(call fuzz,control,$(CONTROL_O) $(CONTROL_TEST_O),-lconfig -ljansson -lseccomp -lcrypto))
$(eval $(call fuzz,ca_proto,gateway/ca/proto.o,))
$(eval $(call fuzz,token,$(CA_O) $(PKI_O) $(BASE_O),-ljansson -lcrypto))
$(eval $(call fuzz,pkcs7,pki/pkcs7.o gateway/base/mem.o,-lcrypto))
$(eval $(call fuzz,keys_proto,gateway/keys/proto.o,))
$(eval $(call fuzz,p11uri,gateway/config/p11uri.o $(addprefix gateway/base/, esc.o mem.o),))
$(foreach t,audit_record audit_event audit_ring,$(eval $(call fuzz,$t,$(addprefix gateway/audit/, event.o parse.o record.o ring.o schema.o \
	segment.o) $(BASE_O),)))

$(eval $(call fuzz,h2,$(HTTP2_O) $(IO_O) $(HTTP1_O) $(BASE_O),-levent_core -lnghttp2))
$(eval $(call fuzz,hello,gateway/enrol/hello.o,))
$(eval $(call fuzz,est_wire,gateway/enrol/wire.o $(HTTP1_O) $(BASE_O),))
$(eval $(call fuzz,client_cert,$(LINK_TEST_O),-lcrypto))

SECONDS ?= 60
fuzz: $(addprefix $(FB)/fuzz_,$(FUZZ))
	$(Q)for f in $(FUZZ); do mkdir -p build/corpus/$$f; \
		$(FB)/fuzz_$$f -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=10 -print_final_stats=0 -verbosity=0 \
			build/corpus/$$f tests/fuzz/corpus/$$f || exit 1; echo "fuzz $$f: ok"; done

$(B)/tests/bench/bench_journal: $(addprefix $(B)/,tests/bench/bench_journal.o tests/unit/audit/sample.o $(AUDIT_O) $(BASE_O))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcrypto

# ---- roles: each links with the objects it needs and no other, which proves what it cannot do -------
# keys: no network library, no parser. journal, control: no TLS. No role but master reads configuration; none has the CA.
ROLES :=
ROLE_O := $(BASE_O) $(addprefix gateway/process/, child.o ipc.o memfd.o privs.o role.o sandbox.o spawn.o)
IMAGE_O := $(addprefix gateway/config/, host.o image.o lookup.o options.o trust.o value.o)
EVENTS_O := $(addprefix gateway/audit/, event.o ring.o schema.o)
define role # name, objects, libraries
ROLES += $(1)
$$(B)/roles/$(1): tests/roles/main.c $$(addprefix $$(B)/,$(2) $(ROLE_O))
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(LDFLAGS) -DROLE_MAIN=$(1)_main -o $$@ $$^ $(3) -lseccomp
endef
$(eval $(call role,keys,$(addprefix gateway/keys/, csr.o held.o hsm.o ident.o proto.o role.o),-lcrypto))
$(eval $(call role,journal,gateway/main/journal_main.o $(AUDIT_O) $(IMAGE_O),-lcrypto))
$(eval $(call role,control,$(CONTROL_O) $(EVENTS_O) $(IMAGE_O),-ljansson))
$(eval $(call role,worker,$(addprefix gateway/main/, worker.o worker_est.o worker_trust.o) $(EXCHANGE_O) $(ENROL_O) $(addprefix gateway/ca/, client.o proto.o) $(UPSTREAM_O) $(LINK_O) $(HTTP2_O) $(TLS_O) $(IO_O) $(PKI_O) $(HTTP1_O) \
	$(addprefix gateway/keys/, client.o ident.o proto.o provider.o) $(EVENTS_O) $(IMAGE_O) \
	$(addprefix policy/, intern.o match.o method.o model.o open.o pattern.o sets.o trie.o),-levent_core -lnghttp2 $(LIB_SSL)))
$(eval $(call role,ca,$(addprefix gateway/ca/, proto.o role.o) $(ISSUE_O) $(PKI_O) $(EVENTS_O) $(IMAGE_O),-ljansson -lcrypto))
roles: $(addprefix $(B)/roles/,$(ROLES))

# ---- what people type ------------------------------------------------------------------------
# DEPS=no leaves packages alone. JOBS: how many compilers at once.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
MAKEQ = +$(Q)$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

deps:
	$(Q)tools/deps.sh build
check-deps:
	$(Q)tools/deps.sh build test
demo-deps:
	$(Q)tools/deps.sh build demo
bench-deps:
	$(Q)tools/deps.sh build bench
fuzz-deps:
	$(Q)tools/deps.sh build fuzz

# make demo [KEEP=1]
demo: demo-deps
	$(MAKEQ) demo-build
	$(Q)tools/demo.sh $(if $(KEEP),-k) $(B)
demo-build: all $(B)/tools/demo/service
	@:
$(B)/tools/demo/service: $(B)/tools/demo/service.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

# make check [SAN=address,undefined] [SUITES="unit style e2e"] [TESTS="test_crossing.py -k chunked"]
SUITES ?= unit style e2e
check: check-deps
	-$(MAKEQ) -k check-build
	$(Q)B=$(B) UNIT="$(UNIT)" ROLES="$(ROLES)" tests/run.sh $(SUITES) $(if $(TESTS),-- $(TESTS))
check-build: demo-build $(addprefix $(B)/tests/unit/,$(UNIT)) $(addprefix $(B)/roles/,$(ROLES))
	@:
# The style checks alone.
checks:
	$(Q)B=$(B) tests/run.sh style

# make stress [SECONDS=40] [SEED=1]: both gateways and a sidecar, built with sanitizers, under callers and services that misbehave
stress: check-deps
	$(MAKEQ) SAN=address,undefined all
	$(Q)B=build/san-address-undefined /usr/bin/python3 tests/fault/stress.py -s $(if $(filter command%,$(origin SECONDS)),$(SECONDS),40) $(if $(SEED),--seed $(SEED))

# make bench [ROUNDS=3] [PEERS="sallyport nghttpx"] [WORK="c64 down1 handshake peers100"]
ROUNDS ?= 3
bench: bench-deps
	$(MAKEQ) all $(addprefix $(B)/tests/bench/,load origin handshake)
ifneq ($(if $(WORK),$(filter-out handshake peers100,$(WORK)),all),)
	$(Q)tests/bench/bench.sh -b $(B) -r $(ROUNDS) $(if $(PEERS),-p "$(PEERS)") $(if $(WORK),-w "$(filter-out handshake peers100,$(WORK))")
endif
ifneq ($(if $(WORK),$(filter handshake,$(WORK)),all),)
	$(Q)tests/bench/handshake.sh -b $(B) -r $(ROUNDS)
endif
ifneq ($(if $(WORK),$(filter peers100,$(WORK)),all),)
	$(Q)/usr/bin/python3 tests/bench/peers100.py -b $(B)
	$(Q)/usr/bin/python3 tests/bench/peers100.py -b $(B) --far-dials
endif
$(B)/tests/bench/load $(B)/tests/bench/handshake: %: %.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIB_SSL)
$(B)/tests/bench/bench_policy: $(addprefix $(B)/,tests/bench/bench_policy.o $(POLICY_O) $(BASE_O))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^
$(B)/tests/bench/bench_http1: $(addprefix $(B)/,tests/bench/bench_http1.o $(HTTP1_O) $(addprefix gateway/base/, clock.o hash.o mem.o uuid.o))
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^
$(B)/tests/bench/origin: $(B)/tests/bench/origin.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

# What the files of packaging/ say of paths holds for PREFIX=/usr; another prefix is written into the unit.
MAN := $(wildcard man/*.[1-9])
DOC := README.md SECURITY.md CHANGELOG.md LICENSE
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/sallyport/examples
	install -d -m 750 $(DESTDIR)$(SYSCONFDIR)/sallyport $(DESTDIR)$(SYSCONFDIR)/sallyport/policy.d
	install -m 755 $(B)/sallyportd $(DESTDIR)$(PREFIX)/sbin/sallyportd
	install -m 755 $(B)/gwctl $(DESTDIR)$(PREFIX)/bin/gwctl
	for m in $(MAN); do install -D -m 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/} || exit 1; done
	cp -R conf/. $(DESTDIR)$(PREFIX)/share/doc/sallyport/examples/
	install -m 644 $(DOC) $(DESTDIR)$(PREFIX)/share/doc/sallyport/
	install -D -m 644 packaging/sysusers.d/sallyport.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/sallyport.conf
	install -D -m 644 packaging/tmpfiles.d/sallyport.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/sallyport.conf
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/,$(PREFIX)/,' packaging/systemd/sallyportd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/sallyportd.service
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/sallyportd $(DESTDIR)$(PREFIX)/bin/gwctl
	for m in $(MAN); do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/}; done
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/sallyport.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/sallyport.conf \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/sallyportd.service
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/sallyport

help:
	@echo 'make            build build/sallyportd and build/gwctl'
	@echo 'make demo       two gateways on this machine, shown step by step (KEEP=1 leaves them up)'
	@echo 'make check      all tests (SAN=address,undefined; SUITES="unit style e2e"; TESTS="test_policy.py -k reload")'
	@echo 'make unit       the unit tests;  make checks: the style checks;  make fuzz SECONDS=60: every fuzz target'
	@echo 'make stress     gateways with sanitizers under misbehaving callers and services (SECONDS=40, SEED=1)'
	@echo 'make bench      side by side with HAProxy, nginx and nghttpx (ROUNDS=3, PEERS="...", WORK="...")'
	@echo 'make install    PREFIX=$(PREFIX) SYSCONFDIR=$(SYSCONFDIR) DESTDIR=$(DESTDIR);  make uninstall'
	@echo 'make deps       install what building needs (check-deps, bench-deps, fuzz-deps; DEPS=no never installs)'
	@echo 'V=1 shows commands, WERROR=1 makes warnings errors, CC=clang, SAN=... builds beside the plain build'

clean:
	rm -rf build

.PHONY: all unit fuzz clean roles deps check-deps demo-deps bench-deps fuzz-deps demo demo-build check check-build checks bench install uninstall help
.SECONDARY:
-include $(shell find build -name '*.d' -type f 2>/dev/null)
