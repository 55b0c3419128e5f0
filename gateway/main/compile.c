/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/compile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/process/asan.h"
#include "gateway/process/memfd.h"
#include "gateway/process/privs.h"
#include "gateway/process/sandbox.h"

#define TIME_MS 60000
#define TEXT_MAX (256 * 1024)          /* of faults */
#define IMAGE_MAX (1024UL * 1024 * 1024)
#define MEMORY_MAX (4096UL * 1024 * 1024)

struct compile {
	struct source pipe;            /* first member */
	pid_t pid;                     /* 0 once reaped */
	int status;
	int image_fd;
	struct buf text;
	uint64_t deadline;
	bool eof, late;
};

/* ---- the child ---- */

static void
put(int fd, const void *p, size_t n)
{
	const uint8_t *at = p;

	while (n > 0) {
		ssize_t w = write(fd, at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			_exit(1);
		at += w;
		n -= (size_t)w;
	}
}

/* One line per fault: 'E' or 'W', then its text, in which no line feed is left. */
static void
put_errs(int fd, const struct errs *errs)
{
	size_t room = TEXT_MAX - 64;

	for (size_t i = 0; i < errs->n; i++) {
		char *t = errs->items[i].text;
		size_t n = strlen(t);

		if (n + 2 > room)
			break;
		room -= n + 2;
		for (size_t k = 0; k < n; k++)
			if (t[k] == '\n')
				t[k] = ' ';
		put(fd, errs->items[i].warning ? "W" : "E", 1);
		put(fd, t, n);
		put(fd, "\n", 1);
	}
}

static void
confine(const struct master *m, const struct config *c)
{
	const struct rlimit cpu = { TIME_MS / 1000, TIME_MS / 1000 }, memory = { MEMORY_MAX, MEMORY_MAX };
	int dir = open(c->policy_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *why = "?";
	uint32_t bits = 0;
	uid_t uid;
	gid_t gid;
	char text[512];

	setrlimit(RLIMIT_CPU, &cpu);
	if (!WITH_ASAN)
		setrlimit(RLIMIT_AS, &memory);
	if (sandbox_limits(SANDBOX_POLICY, &bits, &why) < 0)
		log_fatal("cannot confine the policy compiler: %s (%m)", why);
	if (m->root) {
		if (privs_lookup(c->user_prefix, PRIVS_POLICY, &uid, &gid, text, sizeof(text)) < 0)
			log_fatal("%s", text);
		if (privs_drop(uid, gid, true, &why) < 0)
			log_fatal("cannot confine the policy compiler: %s (%m)", why);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* Without a directory there is nothing to read, which config_policy_compile() says better than we could. */
	if (sandbox_enter(SANDBOX_POLICY, dir, &bits, &why) < 0)
		log_fatal("cannot confine the policy compiler: %s (%m)", why);
	if (dir >= 0)
		close(dir);
}

static void
child(const struct master *m, const struct config *c, uint64_t generation, int text_fd, int image_fd)
{
	struct buf image;
	struct errs errs;
	sigset_t none;
	int r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	log_init("policy");
	confine(m, c);
	buf_init(&image, IMAGE_MAX);
	errs_init(&errs);
	r = config_policy_compile(c, generation, &image, &errs);
	put_errs(text_fd, &errs);
	if (r == 0)
		put(image_fd, image.data, image.len);
	_exit(r == 0 ? 0 : 2); /* 2: the faults say why */
}

/* ---- master's side ---- */

static void
on_text(struct source *s, uint32_t events)
{
	struct compile *p = (struct compile *)s;
	char part[4096];
	ssize_t n;

	(void)events;
	n = read(s->fd, part, sizeof(part));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		buf_append(&p->text, part, (size_t)n);
		return;
	}
	n = s->fd;
	master_unwatch(s->master, s);
	close((int)n);
	p->eof = true;
}

struct compile *
compile_start(struct master *m, const struct config *c, uint64_t generation, struct errs *errs)
{
	struct compile *p = mem_zalloc(sizeof(*p));
	int fds[2] = { -1, -1 };

	p->pipe.fd = -1;
	buf_init(&p->text, TEXT_MAX);
	p->image_fd = memfd_new("sallyport-policy");
	if (p->image_fd < 0 || pipe2(fds, O_CLOEXEC) < 0) {
		errs_add(errs, NULL, 0, "cannot start the policy compiler: %s", strerror(errno));
		goto fail;
	}
	p->pid = fork();
	if (p->pid == 0) {
		close(fds[0]);
		child(m, c, generation, fds[1], p->image_fd);
	}
	close(fds[1]);
	if (p->pid < 0) {
		p->pid = 0;
		close(fds[0]);
		errs_add(errs, NULL, 0, "cannot start the policy compiler: %s", strerror(errno));
		goto fail;
	}
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	p->deadline = clock_mono_ms() + TIME_MS;
	master_watch(m, &p->pipe, fds[0], EPOLLIN, on_text);
	return p;
fail:
	compile_free(p);
	return NULL;
}

bool
compile_reaped(struct compile *p, pid_t pid, int status)
{
	if (!p || p->pid != pid)
		return false;
	p->pid = 0;
	p->status = status;
	return true;
}

bool
compile_done(struct compile *p, uint64_t now, uint64_t *next)
{
	if (p->pid > 0 && now >= p->deadline) {
		p->late = true;
		kill(p->pid, SIGKILL);
	}
	*next = p->pid > 0 ? (p->late ? 0 : p->deadline) : 0;
	return p->pid == 0 && p->eof;
}

static void
take_errs(struct compile *p, struct errs *errs)
{
	char *line = buf_cstr(&p->text), *save = NULL;

	for (line = strtok_r(line, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (line[0] == 'E')
			errs_add(errs, NULL, 0, "%s", line + 1);
		else if (line[0] == 'W')
			errs_warn(errs, NULL, 0, "%s", line + 1);
	}
}

int
compile_take(struct compile *p, struct errs *errs)
{
	size_t before = errs->errors;
	int fd;

	take_errs(p, errs);
	if (WIFEXITED(p->status) && WEXITSTATUS(p->status) == 0 && errs->errors == before) {
		if (memfd_seal(p->image_fd) == 0) {
			fd = p->image_fd;
			p->image_fd = -1;
			return fd;
		}
		errs_add(errs, NULL, 0, "the policy's image cannot be sealed: %s", strerror(errno));
	} else if (errs->errors == before) {
		if (p->late)
			errs_add(errs, NULL, 0, "the policy compiler took more than %d s and was stopped; use fewer rules",
			    TIME_MS / 1000);
		else if (WIFSIGNALED(p->status))
			errs_add(errs, NULL, 0, "the policy compiler was killed by signal %d%s", WTERMSIG(p->status),
			    WTERMSIG(p->status) == SIGSYS ? " (its sandbox)" : "");
		else
			errs_add(errs, NULL, 0, "the policy compiler failed; see the message above it in the operator log");
	}
	return -1;
}

void
compile_free(struct compile *p)
{
	if (!p)
		return;
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	if (p->pipe.fd >= 0) {
		int fd = p->pipe.fd;

		master_unwatch(p->pipe.master, &p->pipe);
		close(fd);
	}
	if (p->image_fd >= 0)
		close(p->image_fd);
	buf_fini(&p->text);
	mem_free(p);
}

int
compile_nothing(const struct config *c, uint64_t generation)
{
	struct policy_service *services = mem_array(c->nservices ? c->nservices : 1, sizeof(*services));
	struct policy_input in = { .services = services, .nservices = c->nservices, .generation = generation, .digest = "" };
	struct buf image;
	struct errs errs;
	int fd = -1;

	for (size_t i = 0; i < c->nservices; i++) {
		services[i].name = c->services[i].name;
		services[i].tcp = c->services[i].kind == CONFIG_KIND_TCP;
	}
	buf_init(&image, 0);
	errs_init(&errs);
	if (policy_compile(&in, &image, &errs) == 0)
		fd = memfd_sealed("sallyport-policy", image.data, image.len);
	errs_fini(&errs);
	buf_fini(&image);
	mem_free(services);
	return fd;
}
