/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/main/children.h"
#include "gateway/main/compile.h"
#include "gateway/main/listen.h"
#include "gateway/main/note.h"
#include "gateway/main/notify.h"
#include "gateway/main/renew.h"
#include "gateway/main/setup.h"
#include "gateway/main/state.h"
#include "gateway/main/status.h"
#include "gateway/main/trust.h"
#include "gateway/process/memfd.h"

#define POLICY_IMAGE_MAX (1024UL * 1024 * 1024)
#define WAITING_MAX 32

struct reload {
	enum {
		RELOAD_NONE,       /* nothing to do; ends with a request */
		RELOAD_COMPILING,  /* the policy compiler works; ends with its exit */
		RELOAD_STARTING,   /* the new generation's processes start; ends when all are ready, one dies, or at the deadline */
	} state;
	struct config *config;     /* loaded, not yet a generation's */
	struct errs errs;
	struct compile *compile;
	int policy_fd;             /* compiled and checked, not yet in use; -1 */
	uint64_t policy_generation;
	uint32_t policy_rules;
	char policy_digest[65];
	struct generation *gen;    /* starting */
	uint64_t deadline;
	bool again;                /* asked for meanwhile */
	struct waiting {           /* who waits for the answer: of this run, or (again) of the next */
		uint32_t id;
		bool next;
	} waiting[WAITING_MAX];
	unsigned nwaiting;
};

struct reload *
reload_new(struct master *m)
{
	struct reload *r = mem_zalloc(sizeof(*r));

	(void)m;
	r->policy_fd = -1;
	errs_init(&r->errs);
	return r;
}

static void
clear(struct reload *r)
{
	config_free(r->config);
	r->config = NULL;
	compile_free(r->compile);
	r->compile = NULL;
	if (r->policy_fd >= 0)
		close(r->policy_fd);
	r->policy_fd = -1;
	errs_fini(&r->errs);
	errs_init(&r->errs);
	r->gen = NULL;
	r->state = RELOAD_NONE;
}

void
reload_free(struct reload *r)
{
	if (!r)
		return;
	clear(r);
	errs_fini(&r->errs);
	mem_free(r);
}

bool
reload_busy(const struct master *m)
{
	return m->reload->state != RELOAD_NONE;
}

/* ---- ending ---- */

static void
log_errs(const struct errs *errs)
{
	for (size_t i = 0; i < errs->n; i++) {
		if (errs->items[i].warning)
			log_warn("%s", errs->items[i].text);
		else
			log_error("%s", errs->items[i].text);
	}
	if (errs->dropped)
		log_error("%zu more faults", errs->dropped);
}

static void
answer(struct master *m, bool ok)
{
	struct reload *r = m->reload;
	struct buf json;
	unsigned left = 0;

	buf_init(&json, IPC_MAX_DATA - 16);
	status_reload(m, ok, &r->errs, &json);
	for (unsigned i = 0; i < r->nwaiting; i++) {
		if (r->waiting[i].next)
			r->waiting[left++] = (struct waiting){ .id = r->waiting[i].id };
		else
			status_reply(m, r->waiting[i].id, ok ? 0 : 1, &json);
	}
	r->nwaiting = left;
	buf_fini(&json);
}

/* The new generation's processes go; nothing else has changed yet. */
static void
abandon(struct master *m, struct generation *g)
{
	struct child *c;

	listen_abort(m->listen);
	g->draining = true;
	TAILQ_FOREACH(c, &m->children, next)
		if (c->gen == g) {
			c->wanted = false;
			children_stop(m, c, 1000);
		}
}

static void
refused(struct master *m, const char *reason)
{
	struct reload *r = m->reload;

	log_errs(&r->errs);
	if (r->gen)
		abandon(m, r->gen);
	note_generation(m, false, reason, r->errs.n ? r->errs.items[0].text : NULL);
	answer(m, false);
	clear(r);
	if (!m->current) {
		log_error("sallyportd does not start: correct the faults above");
		master_fail(m, 1);
		return;
	}
	log_error("reload refused (%s): generation %u with policy %lu goes on", reason, m->current->number,
	    (unsigned long)m->policy_generation);
	notify_ready();
}

/* ---- generations ---- */

static struct generation *
generation_new(struct master *m, struct config **c)
{
	struct generation *g = mem_zalloc(sizeof(*g));
	struct buf image;

	g->config = *c;
	*c = NULL;
	g->number = ++m->last_generation;
	g->since_ms = clock_mono_ms();
	buf_init(&g->frame, 0);
	config_encode_frame(g->config, &g->frame);
	buf_init(&image, 0);
	config_encode(g->config, &image);
	g->config_fd = memfd_sealed("sallyport-config", image.data, image.len);
	buf_fini(&image);
	g->nworkers = g->config->workers;
	g->workers = mem_array(g->nworkers, sizeof(struct child *));
	TAILQ_INSERT_HEAD(&m->generations, g, next);
	return g;
}

static bool
generation_running(const struct master *m, const struct generation *g, bool workers_only)
{
	const struct child *c;

	TAILQ_FOREACH(c, &m->children, next)
		if (c->gen == g && children_running(c) && (!workers_only || c->role == ROLE_WORKER))
			return true;
	return false;
}

static void
generation_free(struct master *m, struct generation *g)
{
	struct child *c, *next;

	TAILQ_FOREACH_SAFE(c, &m->children, next, next)
		if (c->gen == g)
			children_remove(m, c);
	TAILQ_REMOVE(&m->generations, g, next);
	log_debug("generation=%u ended", g->number);
	if (g->config_fd >= 0)
		close(g->config_fd);
	config_free(g->config);
	buf_fini(&g->frame);
	mem_free(g->workers);
	mem_free(g);
}

/* Its workers finish what runs; its keys and ca roles stay as long as they do. */
static void
generation_drain(struct master *m, struct generation *g)
{
	g->draining = true;
	g->since_ms = clock_mono_ms();
	g->keys->wanted = false;
	if (g->ca)
		g->ca->wanted = false;
	for (unsigned i = 0; i < g->nworkers; i++)
		children_drain(m, g->workers[i], g->config->limits.drain_ms);
}

/* Drained generations go; too many draining ones are cut, oldest first. */
static void
sweep(struct master *m)
{
	struct generation *g, *older;
	unsigned draining = 0;

	TAILQ_FOREACH_SAFE(g, &m->generations, next, older) {
		if (!g->draining)
			continue;
		if (!generation_running(m, g, false)) {
			generation_free(m, g);
			continue;
		}
		if (!generation_running(m, g, true)) {
			children_stop(m, g->keys, 1000);
			if (g->ca)
				children_stop(m, g->ca, 1000);
		} else if (++draining > MASTER_MAX_DRAINING) {
			for (unsigned i = 0; i < g->nworkers; i++)
				children_kill(m, g->workers[i], "too-many-draining"); /* their exchanges end on record */
		}
	}
}

static bool
same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* What cannot change under a running daemon, because processes that outlive generations stand on it. */
static void
check_unchanged(const struct config *old, const struct config *new, struct errs *errs)
{
	static const char *const text = "%s cannot change while sallyportd runs (it is \"%s\"); restart it";

	if (!same_text(old->journal.directory, new->journal.directory))
		errs_add(errs, new->file, 0, text, "journal.directory", old->journal.directory);
	if (!same_text(old->control.socket, new->control.socket))
		errs_add(errs, new->file, 0, text, "control.socket", old->control.socket);
	if (!same_text(old->state_dir, new->state_dir))
		errs_add(errs, new->file, 0, text, "state_dir", old->state_dir);
	if (!same_text(old->user_prefix, new->user_prefix))
		errs_add(errs, new->file, 0, text, "user_prefix", old->user_prefix);
}

void
reload_check_keys(const struct config *c, struct errs *errs)
{
	const char *const keys[] = { c->identity.key, c->inside.key, c->enrol.key };

	for (int i = 0; i < 3; i++) {
		bool token = keys[i] && !strncmp(keys[i], "pkcs11:", 7);
		int fd = keys[i] && !token ? open(keys[i], O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;

		if (keys[i] && !token && fd < 0)
			errs_add(errs, c->file, 0, "cannot open the private key \"%s\": %s", keys[i], strerror(errno));
		if (fd >= 0)
			close(fd);
	}
}

/* ---- the steps ---- */

struct config *
reload_first(struct master *m)
{
	struct errs errs;
	struct config *c;

	/* A replacement of a certificate and its key that a crash cut in two must not keep us from starting. */
	c = config_load_shape(m->config_path);
	if (c) {
		renew_recover(c->identity.certificate, c->identity.key);
		renew_recover(c->inside.certificate, c->inside.key);
		renew_recover(c->enrol.certificate, c->enrol.key);
		config_free(c);
	}
	errs_init(&errs);
	c = config_load(m->config_path, &errs);
	if (c) {
		reload_check_keys(c, &errs);
		setup_check_store(c, &errs);
	}
	if (errs.errors) {
		config_free(c);
		c = NULL;
	}
	if (c)
		renew_load(m, c);
	log_errs(&errs);
	errs_fini(&errs);
	m->reload->config = c;
	return c;
}

static void
begin(struct master *m)
{
	struct reload *r = m->reload;

	if (m->current) {
		notify_reloading();
		log_info("reloading %s", m->config_path);
		r->config = config_load(m->config_path, &r->errs);
		if (r->config) {
			check_unchanged(m->current->config, r->config, &r->errs);
			reload_check_keys(r->config, &r->errs);
			setup_check_store(r->config, &r->errs);
		}
		if (!r->config || r->errs.errors) {
			refused(m, "config");
			return;
		}
	}
	r->compile = compile_start(m, r->config, m->policy_generation + 1, &r->errs);
	if (!r->compile) {
		refused(m, "policy");
		return;
	}
	r->state = RELOAD_COMPILING;
}

void
reload_request(struct master *m, bool from_control, uint32_t id)
{
	struct reload *r = m->reload;
	bool busy = reload_busy(m);

	if (from_control) {
		if (r->nwaiting == WAITING_MAX) {
			struct buf json;

			buf_init(&json, 256);
			buf_puts(&json, "{\"ok\":false,\"faults\":[\"too many reloads are asked for at once; try again\"]}");
			status_reply(m, id, 1, &json);
			buf_fini(&json);
			return;
		}
		r->waiting[r->nwaiting++] = (struct waiting){ .id = id, .next = busy };
	}
	/* One under way may have read the files before they were changed: so another follows it. */
	if (busy)
		r->again = true;
	else
		begin(m);
}

/* Checks what the compiler made as any worker will. It takes fd; a damaged one is closed. */
static int
check_policy(struct reload *r, int fd)
{
	const char *why = NULL;
	struct policy p;
	size_t len;
	const void *image = memfd_map(fd, POLICY_IMAGE_MAX, &len, &why);
	int result = -1;

	if (image && policy_open(&p, image, len, &why) == 0) {
		r->policy_fd = fd;
		r->policy_generation = p.generation;
		r->policy_rules = p.nrules;
		snprintf(r->policy_digest, sizeof(r->policy_digest), "%s", policy_digest(&p));
		result = 0;
	} else {
		errs_add(&r->errs, NULL, 0, "the policy's image is damaged: %s", why);
		close(fd);
	}
	memfd_unmap(image, len);
	return result;
}

static void
take_policy(struct master *m)
{
	struct reload *r = m->reload;

	if (m->policy_fd >= 0)
		close(m->policy_fd);
	m->policy_fd = r->policy_fd;
	r->policy_fd = -1;
	m->policy_generation = r->policy_generation;
	m->policy_rules = r->policy_rules;
	snprintf(m->policy_digest, sizeof(m->policy_digest), "%s", r->policy_digest);
}

static void
done(struct master *m, const char *what)
{
	struct reload *r = m->reload;
	char detail[96];

	log_errs(&r->errs);
	snprintf(detail, sizeof(detail), "config generation %u, %u rules", m->current->number, m->policy_rules);
	note_generation(m, true, what, detail);
	log_info("generation=%u policy=%lu rules=%u digest=%.16s loaded (%s)", m->current->number,
	    (unsigned long)m->policy_generation, m->policy_rules, m->policy_digest, what);
	answer(m, true);
	clear(r);
	notify_ready();
}

static void
start_generation(struct master *m)
{
	struct reload *r = m->reload;
	struct generation *g;

	if (listen_prepare(m->listen, r->config, r->config->workers, &r->errs) < 0) {
		refused(m, "listeners");
		return;
	}
	r->gen = g = generation_new(m, &r->config);
	g->policy_fd = r->policy_fd;
	if (g->config_fd < 0) {
		errs_add(&r->errs, NULL, 0, "no memory for the config's image: %s", strerror(errno));
		refused(m, "memory");
		return;
	}
	if (!m->journal->started_ms) { /* the first: journal and control have waited for a config */
		children_start(m, m->journal);
		children_start(m, m->control);
	}
	g->keys = children_add(m, ROLE_KEYS, 0, g);
	for (unsigned i = 0; i < g->nworkers; i++)
		g->workers[i] = children_add(m, ROLE_WORKER, i, g);
	children_start(m, g->keys);
	if (g->config->ca.store) {
		g->ca = children_add(m, ROLE_CA, 0, g);
		children_start(m, g->ca);
	}
	for (unsigned i = 0; i < g->nworkers; i++)
		children_start(m, g->workers[i]);
	r->state = RELOAD_STARTING;
	r->deadline = clock_mono_ms() + MASTER_START_MS;
}

static void
compiled(struct master *m)
{
	struct reload *r = m->reload;
	struct buf frame;
	int fd = compile_take(r->compile, &r->errs);
	bool same, trust = false;

	compile_free(r->compile);
	r->compile = NULL;
	if (fd < 0 && !m->current) {
		/* At start a gateway without a usable policy allows nothing, but is there to be asked and corrected. */
		log_errs(&r->errs);
		errs_fini(&r->errs);
		errs_init(&r->errs);
		log_error("the policy is not usable: every exchange is denied until a reload brings one that is");
		note_generation(m, false, "policy", "nothing is allowed until a usable policy is loaded");
		fd = compile_nothing(r->config, 1);
	}
	if (fd < 0) {
		refused(m, "policy");
		return;
	}
	if (check_policy(r, fd) < 0) {
		refused(m, "policy");
		return;
	}
	if (trust_complete(m, r->config, &r->errs) < 0) { /* now: a peer may have been severed while the policy was compiled */
		refused(m, "state");
		return;
	}
	buf_init(&frame, 0);
	config_encode_frame(r->config, &frame);
	same = m->current && frame.len == m->current->frame.len && !memcmp(frame.data, m->current->frame.data, frame.len);
	buf_fini(&frame);
	if (!same) {
		start_generation(m);
		return;
	}
	if (!trust_same(r->config, m->current->config)) {
		trust = true;
		if (trust_swap(m, &r->config) < 0) {
			errs_add(&r->errs, NULL, 0, "no memory for the config's image: %s", strerror(errno));
			refused(m, "memory");
			return;
		}
	} else if (m->current->config->hsm.module) {
		setup_send_keys(m, m->current->keys, m->current->config); /* a PIN may have been corrected */
	}
	if (m->current->ca && m->current->config->ca.passphrase_file)
		setup_send_passphrase(m, m->current->ca, m->current->config); /* so may the passphrase */
	trust_loaded(m);
	take_policy(m);
	children_broadcast(m, ROLE_WORKER, ROLE_MSG_POLICY, 0, NULL, 0, &m->policy_fd, 1);
	done(m, trust ? "trust" : "policy");
}

void
reload_log_level(struct master *m, enum log_level lv)
{
	log_set_level(lv);
	children_broadcast(m, ROLE_MASTER, ROLE_MSG_LOG_LEVEL, (uint16_t)lv, NULL, 0, NULL, 0);
}

static bool
journal_differs(const struct config_journal *a, const struct config_journal *b)
{
	return a->segment_bytes != b->segment_bytes || a->segment_ms != b->segment_ms || a->group_ms != b->group_ms ||
	    a->min_free != b->min_free;
}

/* Every process of the new generation is ready: it is current now, and the old one drains. */
static void
commit(struct master *m)
{
	struct reload *r = m->reload;
	struct generation *old = m->current, *g = r->gen;
	bool first = !old;

	m->current = g;
	listen_commit(m->listen, g->config);
	g->policy_fd = -1;
	take_policy(m);
	if (old) {
		/* The old workers judge what still runs by the new policy, too. */
		for (unsigned i = 0; i < old->nworkers; i++)
			children_send(m, old->workers[i], ROLE_MSG_POLICY, 0, NULL, 0, &m->policy_fd, 1);
		generation_drain(m, old);
		setup_new_config(m, m->control, g->config_fd);
		/* It starts again with the new settings; what is in the rings waits for it. */
		if (journal_differs(&old->config->journal, &g->config->journal) ||
		    !same_text(old->config->identity.id, g->config->identity.id))
			children_stop(m, m->journal, 5000);
		if (log_level_parse(g->config->log_level) >= 0 && strcmp(old->config->log_level, g->config->log_level)) {
			m->log_level = -1;
			reload_log_level(m, (enum log_level)log_level_parse(g->config->log_level));
		}
		if (old->config->control.mode != g->config->control.mode || !same_text(old->config->control.group, g->config->control.group))
			log_warn("control.mode and control.group take effect when sallyportd is restarted");
	}
	if (first)
		trust_loaded(m);
	else
		trust_current(m);
	done(m, first ? "start" : "config");
	if (first)
		master_started(m);
}

/* True when a process that the new generation needs has died before it was ready. */
static const struct child *
failed_to_start(const struct master *m, const struct generation *g)
{
	const struct child *c;

	TAILQ_FOREACH(c, &m->children, next)
		if ((c->gen == g || (!m->current && !c->gen)) && !children_running(c) && !c->was_ready)
			return c;
	return NULL;
}

static bool
all_ready(const struct master *m, const struct generation *g)
{
	const struct child *c;

	TAILQ_FOREACH(c, &m->children, next)
		if ((c->gen == g || (!m->current && !c->gen)) && c->state != CHILD_READY)
			return false;
	return true;
}

static uint64_t
starting(struct master *m, uint64_t now)
{
	struct reload *r = m->reload;
	const struct child *c = failed_to_start(m, r->gen);
	char ident[32];

	if (c) {
		errs_add(&r->errs, NULL, 0, "the role %s did not start; the lines above in the operator log say why",
		    children_ident(c, ident));
		refused(m, "start");
		return 0;
	}
	if (all_ready(m, r->gen)) {
		commit(m);
		return 0;
	}
	if (now >= r->deadline) {
		errs_add(&r->errs, NULL, 0, "not every role was ready within %d s; see the operator log", MASTER_START_MS / 1000);
		refused(m, "start");
		return 0;
	}
	return r->deadline;
}

uint64_t
reload_tick(struct master *m, uint64_t now)
{
	struct reload *r = m->reload;
	uint64_t next = 0;

	if (m->state > MASTER_RUNNING && r->state != RELOAD_NONE) {
		errs_add(&r->errs, NULL, 0, "sallyportd was told to stop");
		if (r->gen)
			abandon(m, r->gen);
		answer(m, false);
		clear(r);
	}
	if (r->state == RELOAD_COMPILING && compile_done(r->compile, now, &next))
		compiled(m);
	if (r->state == RELOAD_STARTING)
		next = starting(m, now);
	if (r->state == RELOAD_NONE && r->again && m->current && m->state == MASTER_RUNNING) {
		r->again = false;
		begin(m);
		next = now;
	}
	sweep(m);
	return next;
}

bool
reload_reaped(struct master *m, pid_t pid, int status)
{
	return compile_reaped(m->reload->compile, pid, status);
}
