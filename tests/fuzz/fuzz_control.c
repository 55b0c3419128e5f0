/* SPDX-License-Identifier: Apache-2.0 */
/* The admin socket's requests, and the JSON that other roles and master answer with. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/control/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct control c;
	static struct role_env env;
	static uint8_t buf[IPC_MAX_DATA + 16];
	int master[2], sv[2];
	struct channel *ch;
	struct client *cl = &c.clients[0];
	struct ipc_msg m;
	uint64_t now = 1000;
	char sink[4096];

	if (size > CONTROL_REQUEST_MAX || ipc_pair(master) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) < 0)
		return 0;
	log_set_level(LOG_LV_ERROR);
	memset(&c, 0, sizeof(c));
	env.master = master[1];
	c.env = &env;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_init(&c.clients[i]);
	client_start(cl, sv[1], 0, now);
	ch = c.channels = mem_zalloc(sizeof(*ch));
	c.nchannels = 1;
	ch->fd = -1;
	ch->role = ROLE_WORKER;

	/* As a request ... */
	for (size_t at = 0; at < size && cl->fd >= 0; at += 512) {
		size_t n = size - at < 512 ? size - at : 512;

		(void)!send(sv[0], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		client_on_ready(cl, now);
		while (client_has_request(cl))
			client_next_request(&c, cl, now);
		if (cl->fd >= 0 && cl->state != CLIENT_READING && cl->state != CLIENT_WRITING)
			cl->state = CLIENT_READING;
		while (recv(sv[0], sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
		while (ipc_recv(master[0], buf, &m) == 1)
			ipc_msg_close(&m);
	}
	client_close(cl);
	/* ... and as a worker's status and master's. */
	ch->status = json_loadb((const char *)data, size, 0, NULL);
	if (json_is_object(ch->status)) {
		c.gather.master = json_incref(ch->status);
		json_decref(merge_status(&c));
		json_decref(merge_peers(&c));
		json_decref(merge_services(&c));
		json_decref(c.gather.master);
	}
	json_decref(ch->status);
	mem_free(c.channels);
	close(master[0]);
	close(master[1]);
	close(sv[0]);
	return 0;
}
