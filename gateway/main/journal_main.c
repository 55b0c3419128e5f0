/* SPDX-License-Identifier: Apache-2.0 */
/* The journal role: joins the journal (gateway/audit), which knows rings and records, with master's and control's messages. */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/main/roles.h"
#include "gateway/process/child.h"
#include "gateway/process/memfd.h"

#define CONFIG_IMAGE_MAX (256UL * 1024 * 1024)
#define CHANNELS_MAX 8          /* control's, and its successors' while the old one closes */
#define NAME_SIZE 32

struct journal_process {
	struct role_env *env;
	int epoll;                  /* master's channel and control's: one descriptor for the journal's loop */
	int channels[CHANNELS_MAX]; /* -1: free */
	uint8_t buf[IPC_MAX_DATA + 16];
};

/* An instance counts from 1 in each run of master; with the run it names one process for good. */
static uint64_t
instance_of(const struct journal_process *jp, uint32_t instance)
{
	return (jp->env->go.run << 22) + instance;
}

static void
name_of(char out[NAME_SIZE], unsigned arg)
{
	enum role role = (enum role)(arg >> 8);

	if (role == ROLE_WORKER)
		snprintf(out, NAME_SIZE, "%s/%u", role_name(role), arg & 0xff);
	else
		snprintf(out, NAME_SIZE, "%s", role_name(role));
}

static void
tell_master(void *ctx, enum role_msg type, uint64_t instance)
{
	const struct journal_process *jp = ctx;
	uint32_t n = (uint32_t)(instance - instance_of(jp, 0));

	if (ipc_send(jp->env->master, (uint16_t)type, 0, &n, sizeof(n), NULL, 0) < 0)
		log_error("master could not be told about the ring of instance %u", n);
}

static void
on_ring_broken(void *ctx, const char *name, uint64_t instance, const char *why)
{
	log_error("the ring of %s is broken: %s; its writer is killed", name, why);
	tell_master(ctx, ROLE_MSG_RING_BROKEN, instance);
}

static void
on_ring_done(void *ctx, const char *name, uint64_t instance)
{
	log_debug("the ring of %s is done", name);
	tell_master(ctx, ROLE_MSG_RING_DONE, instance);
}

static void
add_channel(struct journal_process *jp, int fd)
{
	for (unsigned i = 0; i < CHANNELS_MAX; i++)
		if (jp->channels[i] < 0) {
			struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i + 1 };

			jp->channels[i] = fd;
			epoll_ctl(jp->epoll, EPOLL_CTL_ADD, fd, &ev);
			return;
		}
	close(fd);
}

static void
on_ready(struct journal *j, void *ctx)
{
	const struct journal_process *jp = ctx;

	(void)j;
	if (child_ready(jp->env) < 0)
		log_error("master could not be told that the journal is ready");
}

static void
take_fds(struct journal *j, struct journal_process *jp, struct ipc_msg *m)
{
	struct role_env_fd fds[IPC_MAX_FDS];
	int n = child_fds(m, fds);

	for (int i = 0; i < n; i++) {
		const struct role_env_fd *f = &fds[i];
		char name[NAME_SIZE];
		const char *why = NULL;

		if (f->kind == ROLE_FD_CHANNEL) {
			add_channel(jp, f->fd);
			continue;
		}
		if (f->kind == ROLE_FD_RING) {
			name_of(name, f->arg);
			if (journal_add_ring(j, f->fd, name, instance_of(jp, f->number), &why) < 0)
				on_ring_broken(jp, name, instance_of(jp, f->number), why);
		}
		close(f->fd);
	}
}

/* 0; -1 when master is gone. */
static int
on_master(struct journal *j, struct journal_process *jp)
{
	struct ipc_msg m;
	uint32_t instance;
	char name[NAME_SIZE];
	int r;

	while ((r = ipc_recv(jp->env->master, jp->buf, &m)) > 0) {
		switch (m.type) {
		case ROLE_MSG_FD:
			take_fds(j, jp, &m);
			break;
		case ROLE_MSG_PRODUCER_DIED:
			if (m.len != sizeof(instance))
				break;
			memcpy(&instance, m.data, sizeof(instance));
			name_of(name, m.arg);
			journal_producer_died(j, name, instance_of(jp, instance));
			break;
		case ROLE_MSG_STOP:
			journal_stop(j);
			break;
		case ROLE_MSG_LOG_LEVEL:
			if (m.arg <= LOG_LV_DEBUG)
				log_set_level((enum log_level)m.arg);
			break;
		default: /* CHANNEL_GONE: the channel itself says so */
			break;
		}
		ipc_msg_close(&m);
	}
	return r == 0 ? 0 : -1;
}

static void
on_control(struct journal *j, struct journal_process *jp, unsigned i)
{
	struct ipc_msg m;
	struct buf json;
	int r = ipc_recv(jp->channels[i], jp->buf, &m);

	if (r == 0)
		return;
	if (r < 0 || m.type != ROLE_MSG_STATUS || m.nfds > 0) {
		if (r != -1)
			log_error("a message from control is not allowed; its channel is closed");
		if (r > 0)
			ipc_msg_close(&m);
		close(jp->channels[i]);
		jp->channels[i] = -1;
		return;
	}
	buf_init(&json, 0);
	journal_status_json(j, &json);
	ipc_send(jp->channels[i], ROLE_MSG_STATUS_REPLY, json.len > IPC_MAX_DATA, json.data,
	    json.len > IPC_MAX_DATA ? IPC_MAX_DATA : json.len, NULL, 0);
	buf_fini(&json);
}

static int
on_readable(struct journal *j, void *ctx)
{
	struct journal_process *jp = ctx;
	struct epoll_event ev[CHANNELS_MAX + 1];
	int n = epoll_wait(jp->epoll, ev, CHANNELS_MAX + 1, 0), result = 0;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == 0)
			result = on_master(j, jp);
		else if (jp->channels[ev[i].data.u32 - 1] >= 0)
			on_control(j, jp, ev[i].data.u32 - 1);
	}
	return result;
}

int
journal_main(struct role_env *env)
{
	static const struct journal_calls calls = {
		.on_master_readable = on_readable, .on_ring_broken = on_ring_broken, .on_ring_done = on_ring_done, .on_ready = on_ready,
	};
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 0 };
	struct journal_process *jp = mem_zalloc(sizeof(*jp));
	struct journal_ring *rings = mem_array(env->nfds + 1, sizeof(*rings));
	struct journal_env je = { .dir_fd = env->journal_dir_fd, .wake_fd = env->ring_wake_fd, .calls = &calls, .ctx = jp };
	const char *why = NULL;
	struct utsname host;
	struct config *c = NULL;
	const void *image;
	size_t len;
	int rc;

	image = memfd_map(env->config_fd, CONFIG_IMAGE_MAX, &len, &why);
	if (image)
		c = config_decode(image, len, &why);
	memfd_unmap(image, len);
	if (!c)
		log_fatal("the config from master is not usable: %s", why);
	if (log_level_parse(c->log_level) >= 0)
		log_set_level((enum log_level)log_level_parse(c->log_level));
	jp->env = env;
	for (unsigned i = 0; i < CHANNELS_MAX; i++)
		jp->channels[i] = -1;
	jp->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (jp->epoll < 0 || epoll_ctl(jp->epoll, EPOLL_CTL_ADD, env->master, &ev) < 0)
		log_fatal("epoll: %m");
	for (unsigned i = 0; i < env->nfds; i++) {
		const struct role_env_fd *f = &env->fds[i];

		if (f->kind == ROLE_FD_CHANNEL) {
			add_channel(jp, f->fd);
		} else if (f->kind == ROLE_FD_RING) {
			char *name = mem_alloc(NAME_SIZE);

			name_of(name, f->arg);
			rings[je.nrings++] = (struct journal_ring){
				.fd = f->fd, .name = name, .instance = instance_of(jp, f->number),
			};
		}
	}
	je.master_fd = jp->epoll;
	je.rings = rings;
	je.host = uname(&host) == 0 && host.nodename[0] ? host.nodename : "-";
	je.origin = !strncmp(c->identity.id, "spiffe://", 9) ? c->identity.id + 9 : c->identity.id;
	je.segment_bytes = c->journal.segment_bytes;
	je.segment_ms = c->journal.segment_ms;
	je.group_ms = c->journal.group_ms;
	je.min_free = c->journal.min_free;
	rc = journal_role(&je);
	for (size_t i = 0; i < je.nrings; i++)
		mem_free((void *)(uintptr_t)rings[i].name);
	mem_free(rings);
	mem_free(jp);
	config_free(c);
	return rc;
}
