/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/worker_est.h"

#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/ca/client.h"
#include "gateway/enrol/enrol.h"
#include "gateway/enrol/renew.h"
#include "gateway/process/child.h"
#include "gateway/process/ipc.h"
#include "gateway/process/memfd.h"

static struct {
	struct gate *g;
	int master, ca_fd;
	struct io ca_io;
	struct ca_client *ca;
	struct renew *renew;
} est = { .ca_fd = -1 };

static void on_ca(void *ctx, unsigned what)
{
	(void)ctx, (void)what;
	if (ca_client_on_readable(est.ca) == 0)
		return;
	io_del(&est.ca_io);
	close(est.ca_fd);
	est.ca_fd = -1;
}

void worker_est_channel(int fd)
{
	io_del(&est.ca_io);
	if (est.ca)
		ca_client_set_fd(est.ca, fd);
	if (est.ca_fd >= 0)
		close(est.ca_fd);
	est.ca_fd = fd;
	if (est.ca)
		io_add_level(est.g->loop, &est.ca_io, fd, on_ca, NULL);
}

/* Vetted and stored by master, which then tells every process. */
static void on_renewed(void *ctx, unsigned key, const char *pem, size_t len)
{
	int fd = memfd_sealed("sallyport-renewed", pem, len);

	(void)ctx;
	if (fd < 0 || ipc_send(est.master, ROLE_MSG_RENEWED, (uint16_t)key, NULL, 0, &fd, 1) != 0)
		log_error("event=renewal-lost key=%u the new certificate cannot be handed to master; it is asked for again", key);
	if (fd >= 0)
		close(fd);
}

void worker_est_start(struct gate *g, struct role_env *env)
{
	const struct role_env_fd *channel = child_find(env, ROLE_FD_CHANNEL, ROLE_CA << 8);

	est.g = g;
	est.master = env->master;
	if (g->config->enrol.host && !g->config->enrol.nforward)
		est.ca = ca_client_new(g->loop, -1);
	if (channel)
		worker_est_channel(channel->fd);
	g->enrol = enrol_new(&(struct enrol_env){
		.loop = g->loop, .config = g->config, .ring = g->ring, .ca = est.ca, .scratch = g->scratch, .scratch_size = g->scratch_size,
	});
	if (env->go.index == 0)
		est.renew = renew_new(&(struct renew_env){
			.loop = g->loop, .config = g->config, .tls = &g->tls, .ring = g->ring, .on_renewed = on_renewed,
		});
}

void worker_est_trust(void)
{
	renew_trust(est.renew);
}

void worker_est_drain(void)
{
	renew_drain(est.renew);
}

void worker_est_status(struct buf *out)
{
	if (est.g->enrol) {
		buf_puts(out, ",\"enrol\":");
		enrol_status(est.g->enrol, out);
	}
	if (est.renew) {
		buf_puts(out, ",\"renewal\":");
		renew_status(est.renew, out);
	}
}
