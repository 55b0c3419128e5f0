/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control/control.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/process/child.h"
#include "gateway/process/memfd.h"
#include "gateway/process/sandbox.h"

#define CONFIG_IMAGE_MAX (256UL * 1024 * 1024)
#define OUTSTANDING_MAX 4

/* ---- asking ---- */

uint32_t
control_ask_master(struct control *c, enum role_msg type, unsigned arg, const char *text)
{
	uint32_t id = ++c->last_id ? c->last_id : ++c->last_id;
	size_t n = text ? strlen(text) : 0;
	uint8_t data[sizeof(id) + CONTROL_PEER_MAX];

	assert(n <= CONTROL_PEER_MAX);
	memcpy(data, &id, sizeof(id));
	if (n)
		memcpy(data + sizeof(id), text, n);
	return ipc_send(c->env->master, (uint16_t)type, (uint16_t)arg, data, sizeof(id) + n, NULL, 0) == 0 ? id : 0;
}

void
control_gather(struct control *c, uint64_t now)
{
	struct gather *g = &c->gather;

	if (g->active)
		return;
	g->active = true;
	g->deadline = now + CONTROL_GATHER_MS;
	g->master_id = control_ask_master(c, ROLE_MSG_MASTER_STATUS, 0, NULL);
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		c->clients[i].in_gather = c->clients[i].fd >= 0 && c->clients[i].state == CLIENT_GATHER;
	for (size_t i = 0; i < c->nchannels; i++) {
		struct channel *ch = &c->channels[i];

		if (ch->fd >= 0 && ch->outstanding < OUTSTANDING_MAX && ipc_send(ch->fd, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0) == 0)
			ch->outstanding++;
	}
}

static bool
gather_complete(const struct control *c)
{
	if (c->gather.master_id)
		return false;
	for (size_t i = 0; i < c->nchannels; i++)
		if (c->channels[i].fd >= 0 && !c->channels[i].status)
			return false;
	return true;
}

static void
gather_finish(struct control *c, uint64_t now)
{
	struct gather *g = &c->gather;
	bool more = false;

	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *cl = &c->clients[i];

		if (cl->fd < 0 || cl->state != CLIENT_GATHER)
			continue;
		if (cl->in_gather)
			client_respond(cl, control_command_gathered(c, cl), now);
		else
			more = true;
	}
	json_decref(g->master);
	memset(g, 0, sizeof(*g));
	for (size_t i = 0; i < c->nchannels; i++) {
		json_decref(c->channels[i].status);
		c->channels[i].status = NULL;
	}
	if (more)
		control_gather(c, now);
}

/* ---- channels ---- */

static void
channel_add(struct control *c, const struct role_env_fd *f)
{
	struct channel *ch;

	if (c->nchannels == CONTROL_CHANNELS_MAX) {
		close(f->fd);
		return;
	}
	mem_grow(&c->channels, &c->channels_cap, c->nchannels + 1, sizeof(*c->channels));
	ch = &c->channels[c->nchannels++];
	memset(ch, 0, sizeof(*ch));
	ch->fd = f->fd;
	ch->role = (enum role)(f->arg >> 8);
	ch->index = f->arg & 0xff;
	ch->instance = f->number;
}

static void
channel_close(struct channel *ch)
{
	if (ch->fd >= 0)
		close(ch->fd);
	ch->fd = -1;
}

static void
channels_sweep(struct control *c)
{
	size_t keep = 0;

	for (size_t i = 0; i < c->nchannels; i++) {
		if (c->channels[i].fd < 0 && !c->channels[i].status)
			continue;
		c->channels[keep++] = c->channels[i];
	}
	c->nchannels = keep;
}

static void
on_channel(struct control *c, struct channel *ch)
{
	struct ipc_msg m;
	json_t *o;
	int r = ipc_recv(ch->fd, c->buf, &m);

	if (r == 0)
		return;
	if (r < 0 || m.type != ROLE_MSG_STATUS_REPLY || m.nfds > 0 || ch->outstanding == 0) {
		if (r != -1)
			log_error("role=%s index=%u sent what is no status; its channel is closed", role_name(ch->role), ch->index);
		if (r > 0)
			ipc_msg_close(&m);
		channel_close(ch);
		return;
	}
	/* An answer to an earlier gather, which did not wait for it, is not one to this. */
	if (--ch->outstanding > 0 || !c->gather.active || ch->status)
		return;
	o = json_loadb((const char *)m.data, m.len, 0, NULL);
	if (!json_is_object(o)) {
		json_decref(o);
		o = json_pack("{s:s}", "error", "its status is damaged or too long");
	}
	ch->status = o;
}

/* ---- master ---- */

static void
take_config(struct control *c, int fd)
{
	const char *why = NULL;
	size_t len;
	const void *image = memfd_map(fd, CONFIG_IMAGE_MAX, &len, &why);
	struct config *config = image ? config_decode(image, len, &why) : NULL;

	memfd_unmap(image, len);
	if (!config) {
		log_error("the config from master is not usable: %s", why);
		return;
	}
	config_free(c->config);
	c->config = config;
}

static void
take_fd(struct control *c, const struct role_env_fd *f)
{
	if (f->kind == ROLE_FD_CHANNEL) {
		channel_add(c, f);
		return;
	}
	if (f->kind == ROLE_FD_CONFIG)
		take_config(c, f->fd);
	close(f->fd);
}

static void
on_reply(struct control *c, const struct ipc_msg *m, uint64_t now)
{
	const char *json = (const char *)m->data + sizeof(uint32_t);
	size_t len;
	uint32_t id;

	if (m->len < sizeof(id))
		return;
	memcpy(&id, m->data, sizeof(id));
	len = m->len - sizeof(id);
	if (c->gather.active && id == c->gather.master_id) {
		c->gather.master_id = 0;
		c->gather.master = json_loadb(json, len, 0, NULL);
		return;
	}
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *cl = &c->clients[i];

		if (cl->fd >= 0 && cl->state == CLIENT_MASTER && cl->id == id)
			client_respond(cl, control_command_answered(cl, m->arg, json, len), now);
	}
}

static void
on_master(struct control *c, uint64_t now)
{
	struct role_env_fd fds[IPC_MAX_FDS];
	struct ipc_msg m;
	int r, n;

	while ((r = ipc_recv(c->env->master, c->buf, &m)) > 0) {
		switch (m.type) {
		case ROLE_MSG_FD:
			n = child_fds(&m, fds);
			for (int i = 0; i < n; i++)
				take_fd(c, &fds[i]);
			break;
		case ROLE_MSG_REPLY:
			on_reply(c, &m, now);
			break;
		case ROLE_MSG_CHANNEL_GONE:
			for (size_t i = 0; i < c->nchannels; i++)
				if (m.len == 4 && !memcmp(&c->channels[i].instance, m.data, 4))
					channel_close(&c->channels[i]);
			break;
		case ROLE_MSG_LOG_LEVEL:
			if (m.arg <= LOG_LV_DEBUG)
				log_set_level((enum log_level)m.arg);
			break;
		case ROLE_MSG_STOP:
			c->stop = true;
			break;
		default:
			break;
		}
		ipc_msg_close(&m);
	}
	if (r < 0)
		c->stop = true;
}

/* ---- the loop ---- */

static void
on_accept(struct control *c, uint64_t now)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd = accept4(c->env->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (c->clients[i].fd < 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) {
			client_start(&c->clients[i], fd, cred.uid, now);
			return;
		}
	close(fd);
}

struct poll_set {
	struct pollfd fds[2 + CONTROL_CLIENTS_MAX + CONTROL_CHANNELS_MAX];
	size_t n;
};

/* The order: master, the socket, clients, channels; what does not take part has descriptor -1, which poll() ignores. */
static uint64_t
fill(struct control *c, struct poll_set *p)
{
	uint64_t next = c->gather.active ? c->gather.deadline : UINT64_MAX;
	bool full = true;

	p->fds[0] = (struct pollfd){ .fd = c->env->master, .events = POLLIN };
	p->n = 2;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		const struct client *cl = &c->clients[i];

		p->fds[p->n++] = (struct pollfd){
			.fd = cl->fd, .events = cl->state == CLIENT_WRITING ? POLLOUT : cl->state == CLIENT_READING ? POLLIN : 0,
		};
		if (cl->fd < 0)
			full = false;
		else if (client_has_request(cl))
			next = 0;
		else if (cl->deadline < next)
			next = cl->deadline;
	}
	p->fds[1] = (struct pollfd){ .fd = full ? -1 : c->env->control_fd, .events = POLLIN };
	for (size_t i = 0; i < c->nchannels; i++)
		p->fds[p->n++] = (struct pollfd){ .fd = c->channels[i].fd, .events = POLLIN };
	return next;
}

static void
turn(struct control *c, struct poll_set *p)
{
	uint64_t next = fill(c, p), now = clock_mono_ms();
	size_t nchannels = c->nchannels;
	int wait = next == UINT64_MAX ? -1 : next <= now ? 0 : (int)(next - now);

	if (poll(p->fds, p->n, wait) < 0) {
		if (errno != EINTR)
			log_fatal("poll: %m");
		return;
	}
	now = clock_mono_ms();
	for (size_t i = 0; i < nchannels; i++)
		if (p->fds[2 + CONTROL_CLIENTS_MAX + i].revents && c->channels[i].fd >= 0)
			on_channel(c, &c->channels[i]);
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *cl = &c->clients[i];

		if (cl->fd >= 0 && p->fds[2 + i].revents)
			client_on_ready(cl, now);
		if (cl->fd >= 0 && now >= cl->deadline)
			client_on_deadline(cl, now);
		if (client_has_request(cl))
			client_next_request(c, cl, now);
	}
	if (p->fds[1].revents)
		on_accept(c, now);
	if (p->fds[0].revents)
		on_master(c, now);
	if (c->gather.active && (gather_complete(c) || now >= c->gather.deadline))
		gather_finish(c, now);
	channels_sweep(c);
}

int
control_main(struct role_env *env)
{
	struct control *c = mem_zalloc(sizeof(*c));
	struct poll_set *p = mem_zalloc(sizeof(*p));
	const char *why = NULL;

	c->env = env;
	c->own_user = env->sandbox & SANDBOX_UID;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_init(&c->clients[i]);
	if (env->control_fd < 0)
		log_fatal("master gave no admin socket");
	take_config(c, env->config_fd);
	if (!c->config)
		return 1;
	if (log_level_parse(c->config->log_level) >= 0)
		log_set_level((enum log_level)log_level_parse(c->config->log_level));
	if (env->ring_fd >= 0 && !(c->ring = ring_map_writer(env->ring_fd, env->ring_wake_fd, &why)))
		log_fatal("the ring from master is not usable: %s", why);
	for (unsigned i = 0; i < env->nfds; i++)
		if (env->fds[i].kind == ROLE_FD_CHANNEL)
			take_fd(c, &env->fds[i]);
	if (child_ready(env) < 0)
		return 1;
	while (!c->stop)
		turn(c, p);
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_close(&c->clients[i]);
	for (size_t i = 0; i < c->nchannels; i++) {
		channel_close(&c->channels[i]);
		json_decref(c->channels[i].status);
	}
	config_free(c->config);
	ring_unmap(c->ring);
	mem_free(c->channels);
	mem_free(c);
	mem_free(p);
	return 0;
}
