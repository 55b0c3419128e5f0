/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's process. Under load it looks into the rings each group_ms and nobody has to wake it; without records for
 * IDLE_MS it says in the rings that it sleeps, and blocks until a writer wakes it, master says something or a heartbeat is due.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"

#define IDLE_MS 100u
#define HEARTBEAT_MS 500u

enum { GONE = -1, TIMEOUT = 0, WOKEN = 1 };

/* Blocks for at most ms. */
static int wait_for(struct journal *j, const struct journal_env *env, bool wakes, int ms)
{
	struct pollfd p[2] = {{.fd = env->master_fd, .events = POLLIN}, {.fd = wakes ? env->wake_fd : -1, .events = POLLIN}};
	int rc = TIMEOUT;
	uint64_t n;

	if (poll(p, 2, ms) < 0 && errno != EINTR) {
		log_error("journal: poll: %s", strerror(errno));
		return GONE;
	}
	if (p[1].revents & POLLIN && read(env->wake_fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		rc = WOKEN;
	if (p[0].revents) {
		if (env->calls && env->calls->on_master_readable)
			return env->calls->on_master_readable(j, env->ctx) == 0 ? rc : GONE;
		return p[0].revents & (POLLHUP | POLLERR | POLLNVAL) ? GONE : rc;
	}
	return rc;
}

/* One turn and the wait after it. *last: when there was something to do. */
static int step(struct journal *j, const struct journal_env *env, uint64_t group_ms, uint64_t *last)
{
	uint64_t now = clock_mono_ms(), after;
	int rc;

	if (journal_turn(j, now) > 0)
		*last = now;
	after = clock_mono_ms();
	if (journal_over(j, after))
		return TIMEOUT;
	if (after - *last < IDLE_MS) {
		/* The next group is due group_ms after this one began, however long the disk took. */
		uint64_t spent = after - now;
		return wait_for(j, env, false, spent < group_ms ? (int)(group_ms - spent) : 0);
	}
	if (!journal_sleep(j)) {
		*last = after;
		return TIMEOUT;
	}
	rc = wait_for(j, env, true, HEARTBEAT_MS);
	journal_awake(j);
	if (rc != WOKEN)
		return rc;
	/* What has just begun may end within a group: its open and end are then one record. */
	*last = clock_mono_ms();
	return wait_for(j, env, false, (int)group_ms);
}

int journal_role(const struct journal_env *env)
{
	uint64_t group_ms = env->group_ms ? env->group_ms : 1, last = clock_mono_ms();
	char why[512];
	struct journal *j = journal_new(env, why, sizeof(why));
	int rc = TIMEOUT;

	if (!j) {
		log_error("journal: %s", why);
		return 1;
	}
	if (env->calls && env->calls->on_ready)
		env->calls->on_ready(j, env->ctx);
	while (rc != GONE && !journal_over(j, clock_mono_ms()))
		rc = step(j, env, group_ms, &last);
	if (rc == GONE) {
		/* Master went, perhaps without a word: what is in the rings is still recorded. */
		rc = journal_stopping(j) ? TIMEOUT : GONE;
		journal_stop(j);
		for (unsigned i = 0; i < 1000 && !journal_over(j, clock_mono_ms()); i++)
			journal_turn(j, clock_mono_ms());
	}
	bool stopped = journal_state(j) == JOURNAL_STOPPED;
	journal_free(j);
	return rc != GONE && stopped ? 0 : 1;
}
