/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "gateway/main/note.h"
#include "gateway/main/reload.h"
#include "gateway/main/setup.h"
#include "gateway/main/state.h"
#include "gateway/main/status.h"
#include "gateway/process/memfd.h"
#include "pki/svid.h"

#define LOOK_MS 500
#define SETTLE_MS 2000      /* a file that was changed so shortly before it was read is read once more */
#define ASKER_MASK 0xfffU    /* of an instance's number: who is to get the answer */
#define TOLD_PER_S 512       /* messages for its siblings from one worker; a CRL of each of 256 peers comes at once at the start */
#define CRL_EVERY_MS 1000   /* how often a domain's CRL is written to disk, at most */

struct sign {               /* of a file, as stat(2) has it */
	uint64_t dev, ino, size;
	int64_t s, ns;
};

struct watch {
	struct file {
		char *path;
		struct sign read, seen; /* when it was last read; when it was last looked at */
	} *files;
	size_t n, cap;
	uint64_t next_ms, again_ms;     /* again_ms: read once more then; 0: no */
};

/* ---- files ---- */

static struct sign
sign_of(const char *path)
{
	struct sign g;
	struct stat st;

	memset(&g, 0, sizeof(g)); /* compared as bytes */
	if (stat(path, &st) == 0)
		g = (struct sign){ st.st_dev, st.st_ino, (uint64_t)st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
	return g;
}

static bool
same_sign(const struct sign *a, const struct sign *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static void
clear(struct watch *w)
{
	for (size_t i = 0; i < w->n; i++)
		mem_free(w->files[i].path);
	w->n = 0;
}

void
trust_fini(struct watch *w)
{
	if (!w)
		return;
	clear(w);
	mem_free(w->files);
	mem_free(w);
}

static void
add_file(void *ctx, const char *path)
{
	struct watch *w = ctx;
	struct file *f;

	mem_grow(&w->files, &w->cap, w->n + 1, sizeof(*w->files));
	f = &w->files[w->n++];
	f->path = mem_strdup(path);
	f->read = f->seen = sign_of(path);
}

void
trust_loaded(struct master *m)
{
	int64_t now = (int64_t)(clock_wall_us() / 1000);

	if (!m->watch)
		m->watch = mem_zalloc(sizeof(*m->watch));
	m->trust_ms = clock_mono_ms();
	clear(m->watch);
	config_trust_files(m->current->config, add_file, m->watch);
	m->watch->next_ms = clock_mono_ms() + LOOK_MS;
	m->watch->again_ms = 0;
	for (size_t i = 0; i < m->watch->n; i++) {
		const struct sign *g = &m->watch->files[i].read;

		/* It may have changed between our reading and our looking. */
		if (now - (g->s * 1000 + g->ns / 1000000) < SETTLE_MS)
			m->watch->again_ms = clock_mono_ms() + SETTLE_MS;
	}
}

/* Something is not as it was read, and was the same twice: whoever writes it has done. */
static bool
changed(struct watch *w, uint64_t now)
{
	bool any = false, settled = true;

	for (size_t i = 0; i < w->n; i++) {
		struct sign g = sign_of(w->files[i].path);

		any |= !same_sign(&g, &w->files[i].read);
		settled &= same_sign(&g, &w->files[i].seen);
		w->files[i].seen = g;
	}
	if (w->again_ms && now >= w->again_ms) {
		w->again_ms = 0;
		any = true;
	}
	return any && settled;
}

static void
keep_crl(struct master *m, const char *domain, int fd)
{
	if (state_put_crl(m->keep, domain, fd) < 0)
		log_error("the CRL of %s cannot be kept in %s: %m; after a restart it is fetched again", domain, m->current->config->state_dir);
}

static void
keep_waiting_crl(struct master *m)
{
	if (!m->crl_waits)
		return;
	m->crl_waits = false;
	keep_crl(m, m->crl_domain, m->crl_fd);
	close(m->crl_fd);
}

uint64_t
trust_tick(struct master *m, uint64_t now)
{
	struct watch *w = m->watch;

	if (m->crl_waits && (m->state != MASTER_RUNNING || now - m->crl_ms >= CRL_EVERY_MS)) {
		keep_waiting_crl(m);
		m->crl_ms = now;
	}
	if (!w || !m->current || m->state != MASTER_RUNNING)
		return 0;
	if (now < w->next_ms)
		return w->next_ms;
	w->next_ms = now + LOOK_MS;
	if (changed(w, now) && !reload_busy(m)) {
		/* Whatever becomes of it, the same content is not tried again. */
		for (size_t i = 0; i < w->n; i++)
			w->files[i].read = w->files[i].seen;
		trust_reread(m, "files");
	}
	return w->next_ms;
}

/* ---- taking over ---- */

int
trust_complete(struct master *m, struct config *c, struct errs *errs)
{
	if (!m->keep)
		return 0;
	for (size_t i = 0; i < c->npeers; i++) {
		int r = c->peers[i].uplink ? 0 : state_severed(m->keep, c->peers[i].domain);

		if (r < 0) {
			errs_add(errs, c->file, c->peers[i].line, "%s/severed: cannot be read (%s), so it is not known whether peer \"%s\" is severed",
			    c->state_dir, strerror(errno), c->peers[i].name);
			return -1;
		}
		c->peers[i].severed = r > 0;
	}
	return 0;
}

int
trust_swap(struct master *m, struct config **new)
{
	struct generation *g = m->current;
	struct buf image;
	struct child *c;
	int fd;

	buf_init(&image, 0);
	config_encode(*new, &image);
	fd = memfd_sealed("sallyport-config", image.data, image.len);
	buf_fini(&image);
	if (fd < 0)
		return -1;
	close(g->config_fd);
	g->config_fd = fd;
	config_free(g->config);
	g->config = *new;
	*new = NULL;
	/* New keys first: a keys role reads what master says before it looks at what workers ask. */
	TAILQ_FOREACH(c, &m->children, next)
		if (c->role == ROLE_KEYS && c->gen->number <= g->number)
			setup_send_keys(m, c, g->config);
	TAILQ_FOREACH(c, &m->children, next)
		if (c->role == ROLE_WORKER && c->gen->number <= g->number) /* a generation that starts learns it when it is current */
			children_send(m, c, ROLE_MSG_TRUST, 0, NULL, 0, &fd, 1);
	setup_new_config(m, m->control, fd);
	return 0;
}

/* The running config itself was changed in place. */
static int
swap_in_place(struct master *m)
{
	struct config *c;
	struct buf image;
	const char *why;
	int r;

	buf_init(&image, 0);
	config_encode(m->current->config, &image);
	c = config_decode(image.data, image.len, &why);
	buf_fini(&image);
	r = c ? trust_swap(m, &c) : -1;
	config_free(c);
	return r;
}

void
trust_current(struct master *m)
{
	struct errs errs;

	errs_init(&errs);
	if (trust_complete(m, m->current->config, &errs) < 0)
		log_error("%s", errs.items[0].text);
	if (swap_in_place(m) < 0)
		log_fatal("no memory for the config");
	errs_fini(&errs);
	trust_loaded(m);
}

bool
trust_same(const struct config *a, const struct config *b)
{
	struct buf x, y;
	bool same;

	buf_init(&x, 0);
	buf_init(&y, 0);
	config_encode(a, &x);
	config_encode(b, &y);
	same = x.len == y.len && !memcmp(x.data, y.data, x.len);
	buf_fini(&x);
	buf_fini(&y);
	return same;
}

static const char *
first_error(const struct errs *errs)
{
	for (size_t i = 0; i < errs->n; i++)
		if (!errs->items[i].warning)
			return errs->items[i].text;
	return "no memory";
}

bool
trust_reread(struct master *m, const char *what)
{
	struct errs errs;
	struct config *c;

	errs_init(&errs);
	c = config_reread_trust(m->current->config, &errs);
	if (c)
		reload_check_keys(c, &errs);
	if (c && !errs.errors && trust_same(c, m->current->config)) {
		config_free(c); /* touched, or written again with what was there */
		errs_fini(&errs);
		return true;
	}
	for (size_t i = 0; i < errs.n; i++)
		(errs.items[i].warning ? log_warn : log_error)("%s", errs.items[i].text);
	if (!c || errs.errors || trust_swap(m, &c) < 0) {
		log_error("event=trust-refused what=%s certificates, bundles and CRLs stay as they were", what);
		note_generation(m, false, "trust", first_error(&errs));
		config_free(c);
		errs_fini(&errs);
		return false;
	}
	log_info("event=trust what=%s generation=%u", what, m->current->number);
	note_generation(m, true, "trust", what);
	errs_fini(&errs);
	trust_loaded(m);
	return true;
}

/* ---- CRLs that came over links; callers ---- */

static struct config_peer *
peer_of_domain(const struct master *m, const char *domain)
{
	for (size_t i = 0; m->current && i < m->current->config->npeers; i++)
		if (!strcmp(m->current->config->peers[i].domain, domain))
			return &m->current->config->peers[i];
	return NULL;
}

void
trust_greet(struct master *m, struct child *c)
{
	const struct config *cfg = c->gen->config;

	for (size_t i = 0; m->keep && i < cfg->npeers; i++) {
		const char *domain = cfg->peers[i].domain;
		int fd = state_crl(m->keep, domain);

		if (fd < 0)
			continue;
		children_send(m, c, ROLE_MSG_CRL, 0, domain, strlen(domain), &fd, 1);
		close(fd);
	}
}

static bool
on_new_crl(struct master *m, struct child *from, struct ipc_msg *msg)
{
	char domain[SPIFFE_DOMAIN_MAX + 1];
	uint64_t now = clock_mono_ms();
	struct stat st;
	struct child *c;

	if (msg->len == 0 || msg->len > SPIFFE_DOMAIN_MAX || msg->nfds != 1 || !spiffe_domain_valid((const char *)msg->data, msg->len) ||
	    !memfd_is_sealed(msg->fds[0]) || fstat(msg->fds[0], &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)SVID_CRL_MAX)
		return false;
	memcpy(domain, msg->data, msg->len);
	domain[msg->len] = '\0';
	if (!peer_of_domain(m, domain))
		return true; /* gone meanwhile */
	TAILQ_FOREACH(c, &m->children, next)
		if (c->role == ROLE_WORKER && c != from)
			children_send(m, c, ROLE_MSG_CRL, 0, domain, msg->len, msg->fds, 1);
	/* Each worker that got it over a link of its own says so: one of them is enough, the last content wins. */
	if (m->keep && strcmp(domain, m->crl_domain) == 0 && now - m->crl_ms < CRL_EVERY_MS) {
		if (m->crl_waits)
			close(m->crl_fd);
		m->crl_fd = fcntl(msg->fds[0], F_DUPFD_CLOEXEC, 0);
		m->crl_waits = m->crl_fd >= 0;
	} else if (m->keep) {
		keep_waiting_crl(m);
		keep_crl(m, domain, msg->fds[0]);
		snprintf(m->crl_domain, sizeof(m->crl_domain), "%s", domain);
		m->crl_ms = now;
	}
	return true;
}

/*
 * Each word of one worker is one to all its siblings. An honest one asks for at most 64 callers a second, and answers as much for each of them; what is
 * beyond that is dropped, so that one that was taken over does not drown the others.
 */
static bool
too_much(struct master *m, struct child *c)
{
	uint64_t now = clock_mono_ms();

	if (now - c->told_ms >= 1000) {
		c->told_ms = now;
		c->told = 0;
	}
	if (c->told++ < TOLD_PER_S + 64 * children_count(m, ROLE_WORKER))
		return false;
	if (!c->alert_ms || now - c->alert_ms >= 60000) {
		c->alert_ms = now;
		note_alert(m, c, "worker-floods", "tells its siblings more than can be meant; the rest is dropped");
	}
	return true;
}

bool
trust_on_worker(struct master *m, struct child *c, struct ipc_msg *msg)
{
	struct child *o;

	if (too_much(m, c))
		return true;
	switch (msg->type) {
	case ROLE_MSG_NEW_CRL:
		return on_new_crl(m, c, msg);
	case ROLE_MSG_WANT_CALLER:
		if (msg->len == 0 || msg->len > SPIFFE_ID_MAX || msg->nfds)
			return false;
		TAILQ_FOREACH(o, &m->children, next)
			if (o->role == ROLE_WORKER && o != c)
				children_send(m, o, ROLE_MSG_CALLER_WANTED, (uint16_t)(c->instance & ASKER_MASK), msg->data, msg->len, NULL, 0);
		return true;
	case ROLE_MSG_FOUND_CALLER:
		if (msg->nfds != 1 || msg->len || !memfd_is_sealed(msg->fds[0]))
			return false;
		TAILQ_FOREACH(o, &m->children, next)
			if (o->role == ROLE_WORKER && (o->instance & ASKER_MASK) == (uint32_t)(msg->arg >> 4))
				children_send(m, o, ROLE_MSG_CALLER, msg->arg & 0xf, NULL, 0, msg->fds, 1);
		return true;
	default:
		return false;
	}
}

/* ---- the kill switch ---- */

static struct config_peer *
peer_of_name(const struct master *m, const char *name, size_t len)
{
	for (size_t i = 0; m->current && i < m->current->config->npeers; i++) {
		struct config_peer *p = &m->current->config->peers[i];

		if (!p->uplink && ((strlen(p->name) == len && !memcmp(p->name, name, len)) || (strlen(p->domain) == len && !memcmp(p->domain, name, len))))
			return p;
	}
	return NULL;
}

void
trust_on_sever(struct master *m, uint32_t id, const char *name, size_t len, bool sever)
{
	struct config_peer *p = peer_of_name(m, name, len);
	const char *unkept = NULL;
	struct buf json;

	buf_init(&json, IPC_MAX_DATA - 16);
	if (p && state_set_severed(m->keep, p->domain, sever) < 0)
		unkept = strerror(errno);
	if (!p) {
		buf_puts(&json, "{\"ok\":false,\"faults\":[\"there is no such peer; \\\"gwctl peers\\\" lists them\"]}");
	} else if (unkept && !sever) {
		buf_printf(&json, "{\"ok\":false,\"faults\":[\"it stays severed: that it was cannot be removed from state_dir (%s); repair that, then again\"]}", unkept);
		p = NULL;
	} else {
		/* A kill switch that waits for a disk would be none: what cannot be kept holds until we end. A reload under way reads it, at the latest when it is over. */
		p->severed = sever;
		if (swap_in_place(m) < 0)
			log_fatal("no memory to %s a peer", sever ? "sever" : "restore");
		p = peer_of_name(m, name, len);
		log_warn("peer=%s event=%s", p->name, sever ? "severed" : "restored");
		if (unkept)
			log_error("peer=%s is severed until sallyportd ends only: it cannot be recorded in state_dir (%s)", p->name, unkept);
		note_peer(m, p->name, sever ? "severed" : "restored");
		buf_printf(&json, "{\"ok\":true,\"peer\":\"%s\",\"domain\":\"%s\",\"severed\":%s", p->name, p->domain, sever ? "true" : "false");
		if (unkept)
			buf_printf(&json, ",\"not_kept\":\"%s\"", unkept);
		buf_puts(&json, "}");
	}
	status_reply(m, id, p ? 0 : 1, &json);
	buf_fini(&json);
}
