/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/worker_trust.h"

#include <string.h>
#include <unistd.h>

#include "gateway/base/hash.h"
#include "gateway/base/le.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/main/worker_est.h"
#include "gateway/process/memfd.h"

#define IMAGE_MAX (1024UL * 1024 * 1024)

static struct trust {
	struct gate *gate;
	struct config *config;
	const struct role_env *env;
	struct svid_bundle **bundles; /* [0] ours, [1 + i] of peers[i]; what links and exchanges look at */
	size_t nbundles;
	uint64_t taken;               /* how often it was made anew */
	int64_t until;                /* our own certificate's end */
} trust;

static int64_t now_s(void)
{
	return (int64_t)(loop_wall_us(trust.gate->loop) / 1000000);
}

/* ---- made from the config ---- */

static void add_crls(struct svid_bundle *b, const char *pem, const char *whose)
{
	const char *why;

	if (pem && svid_bundle_add_crls(b, pem, strlen(pem), now_s(), &why) < 0)
		log_error("event=crl-refused of=%s reason=\"%s\"", whose, why);
}

/* How revocation is heeded, and the files of CRLs. Config revocations are svid's by number. */
static void put_lists(const struct config *c, struct svid_bundle **to)
{
	_Static_assert((int)CONFIG_REV_OFF == (int)SVID_REV_OFF && (int)CONFIG_REV_IF_PRESENT == (int)SVID_REV_IF_PRESENT &&
	    (int)CONFIG_REV_REQUIRED == (int)SVID_REV_REQUIRED, "two enumerations of one thing");

	svid_bundle_set_revocation(to[0], (enum svid_revocation)c->identity.revocation);
	add_crls(to[0], c->identity.crl_pem, c->domain);
	for (size_t i = 0; i < c->npeers; i++)
		if (!c->peers[i].uplink) {
			svid_bundle_set_revocation(to[1 + i], (enum svid_revocation)c->peers[i].revocation);
			add_crls(to[1 + i], c->peers[i].crl_pem, c->peers[i].domain);
		}
}

/* All or, with *why, nothing that can be used. */
static bool make_bundles(const struct config *c, struct svid_bundle **out, const char **why)
{
	out[0] = svid_bundle_new(c->domain, c->identity.bundle_pem, why);
	for (size_t i = 0; out[i] && i < c->npeers; i++)
		out[1 + i] = c->peers[i].uplink ? svid_bundle_ref(out[0]) : svid_bundle_new(c->peers[i].domain, c->peers[i].bundle_pem, why);
	if (!out[c->npeers])
		return false;
	put_lists(c, out);
	return true;
}

static struct tls_env *make_tls(const struct config *c, struct svid_bundle **bundles, const char **why)
{
	struct svid_bundle **list = mem_array(trust.nbundles, sizeof(*list));
	struct tls_env_config cfg = {
		.domain = c->domain, .identity_pem = c->identity.certificate_pem, .inside_pem = c->inside.certificate_pem,
		.enrol_host = c->enrol.host, .enrol_pem = c->enrol.certificate_pem,
		.bundles = list, .skew_s = (int64_t)(c->limits.clock_skew_ms / 1000),
	};
	struct tls_env *env;

	list[cfg.nbundles++] = bundles[0];
	for (size_t i = 0; i < c->npeers; i++)
		if (!c->peers[i].uplink && !c->peers[i].removed) /* an uplink's bundle is our own domain's again: TLS wants each domain once */
			list[cfg.nbundles++] = bundles[1 + i];
	env = tls_env_new(&cfg, why);
	mem_free(list);
	return env;
}

static void drop_bundles(struct svid_bundle **b)
{
	for (size_t i = 0; i < trust.nbundles; i++)
		svid_bundle_unref(b[i]);
}

static void on_first(void *ctx, const struct svid_cert *c)
{
	int64_t *until = ctx;

	if (!*until)
		*until = c->not_after;
}

static void look_at_own(void)
{
	const char *why;

	trust.until = 0;
	svid_pem_each(trust.config->identity.certificate_pem, on_first, &trust.until, &why);
}

/* ---- made anew ---- */

/* As link_set_trust(); then callers. */
static void judge(struct tls_env *tls, const bool *new_cas, bool renewed)
{
	link_set_trust(trust.gate->links, tls, new_cas, renewed);
	link_crls_changed(trust.gate->links);
	gate_judge_callers(trust.gate);
}

/* From the config as it is now. The old contexts live as long as connections use them. */
static bool swap(bool renewed)
{
	struct gate *g = trust.gate;
	struct svid_bundle **fresh = mem_array(trust.nbundles, sizeof(*fresh));
	bool *new_cas = mem_array(trust.nbundles, sizeof(*new_cas));
	const char *why = "";
	struct tls_env *tls = make_bundles(trust.config, fresh, &why) ? make_tls(trust.config, fresh, &why) : NULL, *old = g->tls;

	if (!tls) {
		log_error("event=trust-refused reason=\"%s\" what was trusted before stays", why);
		drop_bundles(fresh);
		mem_free(fresh);
		mem_free(new_cas);
		return false;
	}
	for (size_t i = 0; i < trust.nbundles; i++) {
		struct svid_bundle *was = trust.bundles[i];

		new_cas[i] = !svid_bundle_same_cas(was, fresh[i]);
		/* What came over links is newer than any file. */
		svid_bundle_inherit_crls(fresh[i], was, now_s());
		trust.bundles[i] = fresh[i];
		fresh[i] = was;
	}
	g->tls = tls;
	judge(tls, new_cas, renewed);
	tls_env_unref(old);
	drop_bundles(fresh);
	mem_free(fresh);
	mem_free(new_cas);
	return true;
}

static uint64_t mix(uint64_t h, const char *text)
{
	const uint64_t both[2] = { h, text ? hash_bytes(text, strlen(text)) : 0 };

	return hash_bytes(both, sizeof(both));
}

/* Of what contexts and bundles are made of. Lists, names and severed peers need no new ones: old contexts stay while connections use them. */
static uint64_t material(const struct config *c)
{
	uint64_t h = mix(mix(mix(mix(0, c->identity.certificate_pem), c->identity.bundle_pem), c->inside.certificate_pem), c->enrol.certificate_pem);

	for (size_t i = 0; i < c->npeers; i++)
		h = mix(mix(h, c->peers[i].bundle_pem), c->peers[i].removed ? "removed" : NULL);
	return h;
}

static void take_trust(int fd)
{
	const char *why = NULL;
	size_t len;
	const void *image = memfd_map(fd, IMAGE_MAX, &len, &why);
	struct config *newer = image ? config_decode(image, len, &why) : NULL;
	uint64_t before;
	bool renewed, good = true;

	memfd_unmap(image, image ? len : 0);
	if (!newer) {
		log_error("event=trust-refused reason=\"%s\" what was trusted before stays", why);
		return;
	}
	before = material(trust.config);
	config_take_trust(trust.config, newer);
	renewed = strcmp(trust.config->identity.certificate_pem, newer->identity.certificate_pem) != 0;
	if (before == material(trust.config)) {
		put_lists(trust.config, trust.bundles);
		judge(trust.gate->tls, NULL, false);
	} else {
		good = swap(renewed);
	}
	if (good) {
		trust.taken++;
		look_at_own();
		worker_est_trust();
		log_info("event=trust taken=%llu renewed=%s", (unsigned long long)trust.taken, renewed ? "yes" : "no");
	} else {
		config_take_trust(trust.config, newer);
	}
	/* What "newer" has now is the old, which nothing points to: PEM was made into bundles and contexts, and links have ids of their own. */
	config_free(newer);
}

/* ---- CRLs ---- */

static void crls_changed(void)
{
	link_set_trust(trust.gate->links, trust.gate->tls, NULL, false);
	gate_judge_callers(trust.gate);
}

/* That master kept, or that came to a sibling: whoever it was, it is verified here. */
static void take_crl(const struct ipc_msg *m)
{
	const struct config *c = trust.config;
	const char *why = NULL;
	size_t len;
	const char *pem;
	int rc = 0;

	pem = memfd_map(m->fds[0], SVID_CRL_MAX, &len, &why);
	if (!pem) {
		log_error("event=crl-refused reason=\"%s\"", why);
		return;
	}
	for (size_t i = 0; i < trust.nbundles; i++) {
		const char *domain = i ? c->peers[i - 1].domain : c->domain;

		if ((i && c->peers[i - 1].uplink) || strlen(domain) != m->len || memcmp(domain, m->data, m->len) != 0)
			continue;
		rc = svid_bundle_add_crls(trust.bundles[i], pem, len, now_s(), &why);
		if (rc < 0)
			log_warn("event=crl-refused of=%s reason=\"%s\"", domain, why);
	}
	memfd_unmap(pem, len);
	if (rc > 0) {
		link_crls_changed(trust.gate->links);
		crls_changed();
	}
}

/* One came over a link, or one that is required ran out. */
static void on_crl(void *ctx, int peer, const char *pem, size_t len)
{
	const char *domain = trust.config->peers[peer].domain;
	int fd;

	(void)ctx;
	if (pem) {
		fd = memfd_sealed("crl", pem, len);
		if (fd >= 0) {
			ipc_send(trust.env->master, ROLE_MSG_NEW_CRL, 0, domain, strlen(domain), &fd, 1);
			close(fd);
		}
	}
	crls_changed();
}

/* ---- callers that another worker saw ---- */

static void on_want(void *ctx, const char *id)
{
	(void)ctx;
	ipc_send(trust.env->master, ROLE_MSG_WANT_CALLER, 0, id, strlen(id), NULL, 0);
}

/* A file of certificates for another worker: each u32 length, DER. */
static void answer_wanted(const struct ipc_msg *m)
{
	static uint8_t der[SVID_MAX_BYTES], file[SVID_MAX_BYTES + SVID_MAX_CHAIN * 4];
	struct svid_der chain[SVID_MAX_CHAIN];
	size_t n = link_find_chain(trust.gate->links, (const char *)m->data, m->len, der, chain), at = 0;
	int fd;

	if (!n)
		return;
	for (size_t i = 0; i < n; i++) {
		le_put32(file + at, (uint32_t)chain[i].len);
		memcpy(file + at + 4, chain[i].p, chain[i].len);
		at += 4 + chain[i].len;
	}
	fd = memfd_sealed("caller", file, at);
	if (fd < 0)
		return;
	ipc_send(trust.env->master, ROLE_MSG_FOUND_CALLER, (uint16_t)(m->arg << 4 | n), NULL, 0, &fd, 1);
	close(fd);
}

static void take_caller(const struct ipc_msg *m)
{
	struct svid_der chain[SVID_MAX_CHAIN];
	const char *why;
	size_t len, at = 0, n = 0;
	const uint8_t *file = memfd_map(m->fds[0], SVID_MAX_BYTES + SVID_MAX_CHAIN * 4, &len, &why);

	if (!file)
		return;
	while (n < m->arg && n < SVID_MAX_CHAIN && len - at >= 4 && le_get32(file + at) <= len - at - 4) {
		chain[n] = (struct svid_der){ file + at + 4, le_get32(file + at) };
		at += 4 + chain[n++].len;
	}
	if (n && n == m->arg && at == len)
		link_take_chain(trust.gate->links, chain, n);
	memfd_unmap(file, len);
}

/* ---- for worker.c ---- */

bool worker_trust_on_master(const struct ipc_msg *m)
{
	switch (m->type) {
	case ROLE_MSG_TRUST:
		if (m->nfds == 1)
			take_trust(m->fds[0]);
		return true;
	case ROLE_MSG_CRL:
		if (m->nfds == 1)
			take_crl(m);
		return true;
	case ROLE_MSG_CALLER_WANTED:
		answer_wanted(m);
		return true;
	case ROLE_MSG_CALLER:
		if (m->nfds == 1)
			take_caller(m);
		return true;
	default:
		return false;
	}
}

static void on_cut(void *ctx)
{
	gate_cut_links(ctx);
}

void worker_trust_start(struct gate *g, struct config *config, const struct role_env *env, struct link_env *le)
{
	const char *why = "";

	trust.gate = g;
	trust.config = config;
	trust.env = env;
	trust.nbundles = 1 + config->npeers;
	trust.bundles = mem_array(trust.nbundles, sizeof(*trust.bundles));
	g->tls = make_bundles(config, trust.bundles, &why) ? make_tls(config, trust.bundles, &why) : NULL;
	if (!g->tls)
		log_fatal("TLS: %s", why);
	g->callers = caller_table_new();
	caller_table_skew(g->callers, (int64_t)(config->limits.clock_skew_ms / 1000));
	look_at_own();
	le->tls = g->tls;
	le->callers = g->callers;
	le->bundles = trust.bundles;
	le->nbundles = trust.nbundles;
	le->on_crl = on_crl;
	le->on_cut = on_cut;
	le->on_want = on_want;
}

void worker_trust_watch(void)
{
	gate_watch(trust.gate);
}

void worker_trust_status(struct buf *out)
{
	buf_printf(out, ",\"trust\":{\"taken\":%llu,\"certificate_until\":%lld}", (unsigned long long)trust.taken, (long long)trust.until);
}
