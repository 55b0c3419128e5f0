/* SPDX-License-Identifier: Apache-2.0 */
/* The worker role: joins the gate (gateway/exchange) with what master, keys and control say. */
#include <string.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/exchange/ingress.h"
#include "gateway/keys/client.h"
#include "gateway/main/roles.h"
#include "gateway/main/worker_est.h"
#include "gateway/main/worker_trust.h"
#include "gateway/process/child.h"
#include "gateway/process/memfd.h"

#define IMAGE_MAX (1024UL * 1024 * 1024)
#define SCRATCH_SIZE (256 * 1024)
#define CHANNELS_MAX 8

struct channel {
	struct io io;
	int fd;            /* -1: free */
};

struct worker {
	struct role_env *env;
	struct config *config;
	struct gate gate;
	struct loop *loop;
	struct io master_io, keys_io;
	int keys_fd;
	struct channel control[CHANNELS_MAX];
	struct loop_timer drain_timer;
	const void *policy_image;
	size_t policy_len;
	bool draining, links_empty, ingress_empty;
	uint8_t buf[IPC_MAX_DATA + 16];
};
static struct worker w;

static void leave(const char *why)
{
	log_info("event=worker-exit reason=%s", why);
	ipc_send(w.env->master, ROLE_MSG_DRAINED, 0, NULL, 0, NULL, 0);
	loop_stop(w.loop);
}

/* ---- draining: exchanges finish, then links go, then we do ---- */

static void on_links_empty(void *ctx)
{
	(void)ctx;
	if (!w.links_empty) {
		w.links_empty = true;
		leave("drained");
	}
}

static void on_ingress_empty(void *ctx)
{
	(void)ctx;
	if (w.ingress_empty)
		return;
	w.ingress_empty = true;
	/* Our callers are done: nothing more goes out by links, and what comes in by them ends with their GOAWAY. */
	link_set_drain(w.gate.links, on_links_empty);
}

static void on_drain_deadline(void *ctx)
{
	(void)ctx;
	w.links_empty = true; /* said once, below */
	gate_cut(&w.gate, "drain-deadline");
	leave("drain-deadline");
}

static void drain(uint64_t ms)
{
	if (w.draining)
		return;
	w.draining = true;
	w.gate.draining = true;
	worker_est_drain();
	timer_set(w.loop, &w.drain_timer, ms, on_drain_deadline, NULL);
	ingress_drain(w.gate.ingress, on_ingress_empty, NULL);
}

/* ---- master ---- */

static void take_policy(int fd)
{
	const char *why = NULL;
	struct policy p;
	size_t len;
	const void *image = memfd_map(fd, IMAGE_MAX, &len, &why);

	if (!image || policy_open(&p, image, len, &why) != 0) {
		log_error("event=policy-refused reason=\"%s\" the running generation stays", why ? why : "");
		memfd_unmap(image, image ? len : 0);
		return;
	}
	gate_set_policy(&w.gate, &p);
	memfd_unmap(w.policy_image, w.policy_len);
	w.policy_image = image;
	w.policy_len = len;
	log_info("event=policy generation=%llu rules=%u digest=%.16s", (unsigned long long)p.generation, p.nrules, policy_digest(&p));
}

static void on_keys(void *ctx, unsigned what)
{
	(void)ctx, (void)what;
	if (keys_client_on_readable() != 0)
		io_del(&w.keys_io);
}

static void watch_keys(int fd)
{
	io_del(&w.keys_io);
	if (w.keys_fd >= 0 && w.keys_fd != fd)
		close(w.keys_fd);
	w.keys_fd = fd;
	io_add_level(w.loop, &w.keys_io, fd, on_keys, NULL);
}

static void on_control(void *ctx, unsigned what);

static void add_control(int fd)
{
	for (int i = 0; i < CHANNELS_MAX; i++)
		if (w.control[i].fd < 0) {
			w.control[i].fd = fd;
			io_add_level(w.loop, &w.control[i].io, fd, on_control, &w.control[i]);
			return;
		}
	close(fd);
}

static void take_channel(const struct role_env_fd *f)
{
	switch ((enum role)(f->arg >> 8)) {
	case ROLE_KEYS:
		keys_client_set_fd(f->fd);
		watch_keys(f->fd);
		break;
	case ROLE_CONTROL:
		add_control(f->fd);
		break;
	case ROLE_CA:
		worker_est_channel(f->fd);
		break;
	default:
		close(f->fd);
	}
}

static void on_master(void *ctx, unsigned what)
{
	struct ipc_msg m;
	int r;

	(void)ctx, (void)what;
	while ((r = ipc_recv(w.env->master, w.buf, &m)) > 0) {
		struct role_env_fd fds[IPC_MAX_FDS];
		uint64_t ms;
		int n;

		switch (m.type) {
		case ROLE_MSG_FD:
			n = child_fds(&m, fds);
			for (int i = 0; i < n; i++) {
				if (fds[i].kind == ROLE_FD_CHANNEL)
					take_channel(&fds[i]);
				else
					close(fds[i].fd);
			}
			break;
		case ROLE_MSG_POLICY:
			if (m.nfds == 1)
				take_policy(m.fds[0]);
			break;
		case ROLE_MSG_DRAIN:
			ms = w.config->limits.drain_ms;
			if (m.len == sizeof(ms))
				memcpy(&ms, m.data, sizeof(ms));
			drain(ms);
			break;
		case ROLE_MSG_STOP:
			gate_cut(&w.gate, "stopped");
			loop_stop(w.loop);
			break;
		case ROLE_MSG_LOG_LEVEL:
			log_set_level((enum log_level)m.arg);
			break;
		case ROLE_MSG_CHANNEL_GONE:
			break;
		case ROLE_MSG_TRUST:
		case ROLE_MSG_CRL:
		case ROLE_MSG_CALLER_WANTED:
		case ROLE_MSG_CALLER:
			worker_trust_on_master(&m);
			break;
		default:
			log_fatal("message %u from master is none of a worker's", m.type);
		}
		ipc_msg_close(&m);
	}
	if (r < 0) {
		log_error("event=master-gone");
		loop_stop(w.loop);
	}
}

/* ---- control ---- */

static void status(struct buf *out)
{
	struct gate *g = &w.gate;

	buf_printf(out, "{\"instance\":%u,\"generation\":%u,\"policy_generation\":%llu,\"policy_rules\":%u,\"policy_digest\":\"%s\",\"draining\":%s,"
	    "\"exchanges\":{\"active\":%llu,\"allowed\":%llu,\"denied\":%llu,\"parked\":%u,\"stripped_fields\":%llu},"
	    "\"connections\":%u,\"handshakes\":%u,\"accepted\":%llu,\"refused\":%llu,\"callers\":%u,\"journal\":\"%s\",\"links\":",
	    w.env->go.instance, w.env->go.generation, (unsigned long long)g->policy.generation, g->policy.nrules, policy_digest(&g->policy),
	    w.draining ? "true" : "false", (unsigned long long)g->active, (unsigned long long)g->allowed, (unsigned long long)g->denied,
	    g->nparked, (unsigned long long)g->stripped, g->ingress->connections, g->ingress->handshakes,
	    (unsigned long long)g->ingress->accepted, (unsigned long long)g->ingress->refused, caller_table_count(g->callers),
	    ring_refusal(g->ring, loop_now(w.loop)) ? ring_refusal(g->ring, loop_now(w.loop)) : "ok");
	link_status(g->links, out);
	buf_puts(out, ",\"link_failures\":");
	link_failures(g->links, out);
	buf_puts(out, ",\"services\":[");
	for (size_t i = 0; i < w.config->nservices; i++) {
		const struct gate_service *s = &g->services[i];

		buf_printf(out, "%s{\"name\":\"%s\",\"active\":%u,\"allowed\":%llu,\"denied\":%llu,\"failed\":%llu,\"endpoints\":",
		    i ? "," : "", w.config->services[i].name, s->active, (unsigned long long)s->allowed,
		    (unsigned long long)s->denied, (unsigned long long)s->failed);
		upstream_status(g->upstreams, (int)i, out);
		buf_puts(out, "}");
	}
	buf_puts(out, "]");
	worker_trust_status(out);
	worker_est_status(out);
	buf_puts(out, "}");
}

static void on_control(void *ctx, unsigned what)
{
	struct channel *c = ctx;
	struct ipc_msg m;
	int r;

	(void)what;
	while ((r = ipc_recv(c->fd, w.buf, &m)) > 0) {
		if (m.type == ROLE_MSG_STATUS) {
			struct buf b;

			buf_init(&b, IPC_MAX_DATA);
			status(&b);
			if (b.overflow) {
				/* Too much to say in one message: the numbers without the lists. */
				buf_reset(&b);
				b.overflow = false;
				buf_printf(&b, "{\"instance\":%u,\"generation\":%u,\"cut\":true,\"exchanges\":{\"active\":%llu,\"allowed\":%llu,\"denied\":%llu},\"links\":[],\"services\":[]}",
				    w.env->go.instance, w.env->go.generation, (unsigned long long)w.gate.active,
				    (unsigned long long)w.gate.allowed, (unsigned long long)w.gate.denied);
			}
			ipc_send(c->fd, ROLE_MSG_STATUS_REPLY, 0, b.data, b.len, NULL, 0);
			buf_fini(&b);
		}
		ipc_msg_close(&m);
	}
	if (r < 0) {
		io_del(&c->io);
		close(c->fd);
		c->fd = -1;
	}
}

/* ---- start ---- */

static void on_exchange(void *ctx, struct link *l, struct h2_stream *s, const struct leg_head *head, const struct link_call *call)
{
	struct exchange_from from = {
		.protocol = "h2", .link = l, .call = call, .default_port = head->https ? 443 : 80,
	};

	exchange_start(ctx, &s->leg, call->caller, head, &from);
}

static void on_link_ready(void *ctx, int peer)
{
	gate_unpark(ctx, peer);
}

static void make_gate(void)
{
	struct gate *g = &w.gate;
	struct link_env le;
	struct upstream_env ue;

	g->loop = w.loop;
	g->config = w.config;
	g->scratch = mem_alloc(SCRATCH_SIZE);
	g->scratch_size = SCRATCH_SIZE;
	g->worker = w.env->go.index;
	le = (struct link_env){
		.loop = w.loop, .config = w.config, .ring = g->ring, .worker = w.env->go.index, .workers = w.env->go.count,
		.instance = w.env->go.instance, .scratch = g->scratch, .scratch_size = SCRATCH_SIZE,
		.on_exchange = on_exchange, .on_ready = on_link_ready, .ctx = g,
	};
	worker_trust_start(g, w.config, w.env, &le);
	ue = (struct upstream_env){ .loop = w.loop, .config = w.config, .scratch = g->scratch, .scratch_size = SCRATCH_SIZE };
	g->links = link_set_new(&le);
	g->upstreams = upstream_set_new(&ue);
	gate_init(g);
	worker_trust_watch();
}

int worker_main(struct role_env *env)
{
	const struct role_env_fd *keys;
	const char *why = NULL;
	const void *image;
	size_t len, nl = 0;
	int fds[1024];
	unsigned index[1024];

	w.env = env;
	w.keys_fd = -1;
	for (int i = 0; i < CHANNELS_MAX; i++)
		w.control[i].fd = -1;
	image = memfd_map(env->config_fd, IMAGE_MAX, &len, &why);
	w.config = image ? config_decode(image, len, &why) : NULL;
	if (!w.config)
		log_fatal("config image: %s", why);
	memfd_unmap(image, len);
	log_set_level((enum log_level)log_level_parse(w.config->log_level));
	w.policy_image = memfd_map(env->policy_fd, IMAGE_MAX, &w.policy_len, &why);
	if (!w.policy_image || policy_open(&w.gate.policy, w.policy_image, w.policy_len, &why) != 0)
		log_fatal("policy image: %s", why);
	w.gate.ring = ring_map_writer(env->ring_fd, env->ring_wake_fd, &why);
	if (!w.gate.ring)
		log_fatal("ring: %s", why);
	keys = child_find(env, ROLE_FD_CHANNEL, ROLE_KEYS << 8);
	if (!keys || keys_client_init(keys->fd, &why) != 0)
		log_fatal("keys: %s", keys ? why : "no channel");
	w.loop = loop_new();
	make_gate();
	for (unsigned i = 0; i < env->nfds; i++) {
		if (env->fds[i].kind == ROLE_FD_LISTENER && nl < 1024) {
			fds[nl] = env->fds[i].fd;
			index[nl++] = env->fds[i].arg;
		} else if (env->fds[i].kind == ROLE_FD_CHANNEL && env->fds[i].arg >> 8 == ROLE_CONTROL) {
			add_control(env->fds[i].fd);
		}
	}
	watch_keys(keys->fd);
	io_add_level(w.loop, &w.master_io, env->master, on_master, NULL);
	worker_est_start(&w.gate, env);
	w.gate.ingress = ingress_new(&w.gate, fds, index, nl);
	link_set_start(w.gate.links);
	if (child_ready(env) != 0)
		return 1;
	loop_run(w.loop);
	return 0;
}
