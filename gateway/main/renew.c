/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/renew.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/proto.h"
#include "gateway/main/note.h"
#include "gateway/main/setup.h"
#include "gateway/main/state.h"
#include "gateway/main/trust.h"
#include "gateway/process/memfd.h"
#include "gateway/process/privs.h"
#include "gateway/process/sandbox.h"
#include "pki/keyfit.h"
#include "pki/svid.h"

#define PEM_MAX 65536
#define KEY_MAX 65536
#define LOOK_MS 1000

enum vetted {
	VET_OK,
	VET_MALFORMED,   /* no PEM chain of certificates */
	VET_UNTRUSTED,   /* our own bundle does not prove it */
	VET_OTHER_ID,
	VET_OTHER_NAMES, /* the DNS names are not those of the one that it replaces */
	VET_OLDER,       /* it does not last longer than what we have */
	VET_OTHER_KEY,
	VET_FAILED,      /* could not be found out */
};
static const char *const vetted_text[] = {
	"ok", "it is no chain of certificates", "our bundle does not prove it", "it is for another id", "it has other DNS names",
	"it does not last longer than the one in use", "it is for another key", "it could not be looked at",
};

struct slot {               /* one of our certificates */
	const char *certificate, *key, *pem;
};

static struct slot
slot_of(const struct config *c, unsigned number)
{
	switch (number) {
	case KEYS_IDENTITY: return (struct slot){ c->identity.certificate, c->identity.key, c->identity.certificate_pem };
	case KEYS_INSIDE: return (struct slot){ c->inside.certificate, c->inside.key, c->inside.certificate_pem };
	case KEYS_ENROL: return (struct slot){ c->enrol.certificate, c->enrol.key, c->enrol.certificate_pem };
	default: return (struct slot){ NULL, NULL, NULL };
	}
}

/* ---- the child ---- */

/* All of a file, as text; NULL when it is empty, too long or none. */
static char *
read_all(int fd, size_t max)
{
	char *text = mem_alloc(max + 1);
	size_t len = 0;
	ssize_t n;

	while (len < max && (n = pread(fd, text + len, max - len, (off_t)len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	if (len > 0 && len < max && strlen(text) == len)
		return text;
	mem_free(text);
	return NULL;
}

static char *
read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text = fd >= 0 ? read_all(fd, PEM_MAX) : NULL;

	if (fd >= 0)
		close(fd);
	return text;
}

static void
confine(const struct master *m, const struct config *c)
{
	const char *why;
	uint32_t bits = 0;
	char text[512];
	uid_t uid;
	gid_t gid;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (sandbox_limits(SANDBOX_POLICY, &bits, &why) < 0)
		_exit(VET_FAILED);
	if (m->root && (privs_lookup(c->user_prefix, PRIVS_POLICY, &uid, &gid, text, sizeof(text)) < 0 || privs_drop(uid, gid, false, &why) < 0))
		_exit(VET_FAILED);
	if (sandbox_enter(SANDBOX_POLICY, -1, &bits, &why) < 0)
		_exit(VET_FAILED);
}

/* Nothing is freed or wiped: the process ends. key_fd -1: the key is the present one. */
static enum vetted
vet(const struct config *c, unsigned number, int fd, int key_fd)
{
	struct slot old = slot_of(c, number);
	int64_t now = (int64_t)(clock_wall_us() / 1000000);
	struct svid_info *was = mem_zalloc(sizeof(*was)), *is = mem_zalloc(sizeof(*is));
	char names[2][4096] = { "", "" };
	char *pem = read_all(fd, PEM_MAX), *key;
	const char *why;
	struct svid_bundle *bundle = svid_bundle_new(c->domain, c->identity.bundle_pem, &why);

	if (!bundle)
		return VET_FAILED;
	if (!pem)
		return VET_MALFORMED;
	if (svid_verify_pem(pem, bundle, now, is, &why) != SVID_OK)
		return is->id[0] ? VET_UNTRUSTED : VET_MALFORMED;
	svid_verify_pem(old.pem, bundle, now, was, &why); /* it may have expired; its id and its end are known all the same */
	if (strcmp(is->id, was->id) != 0)
		return VET_OTHER_ID;
	if (svid_dns_names_of_pem(pem, names[0], sizeof(names[0])) < 0 || svid_dns_names_of_pem(old.pem, names[1], sizeof(names[1])) < 0 ||
	    strcmp(names[0], names[1]) != 0)
		return VET_OTHER_NAMES;
	if (was->not_after >= is->not_after)
		return VET_OLDER;
	if (key_fd < 0)
		return keyfit_same(pem, old.pem) ? VET_OK : VET_OTHER_KEY;
	key = read_all(key_fd, KEY_MAX);
	return key && keyfit_pem(pem, key) == KEYFIT_OK ? VET_OK : VET_OTHER_KEY;
}

static enum vetted
ask_child(const struct master *m, unsigned number, int fd, int key_fd)
{
	const struct config *c = m->current->config;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		confine(m, c);
		_exit(vet(c, number, fd, key_fd));
	}
	if (pid < 0)
		return VET_FAILED;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return VET_FAILED;
	return WIFEXITED(status) && WEXITSTATUS(status) <= VET_FAILED ? (enum vetted)WEXITSTATUS(status) : VET_FAILED;
}

/* ---- master ---- */

bool
renew_on_key(struct master *m, struct child *c, struct ipc_msg *msg)
{
	struct child *o;
	struct slot s;

	if (msg->nfds != 1 || msg->arg >= MASTER_KEYS || !memfd_is_sealed(msg->fds[0]))
		return false;
	if (!m->current)
		return true;
	if (m->new_key[msg->arg] >= 0)
		close(m->new_key[msg->arg]);
	m->new_key[msg->arg] = fcntl(msg->fds[0], F_DUPFD_CLOEXEC, 0);
	/* One that drains may have made it: its successor is to ask for the same. */
	TAILQ_FOREACH(o, &m->children, next)
		if (o->role == ROLE_KEYS && o != c)
			setup_send_new_key(m, o, msg->arg);
	/*
	 * And on disk before it is asked for: a CA gives each certificate one successor, and if that came and was lost with the key, in a crash or a
	 * restart, there would be no other.
	 */
	s = slot_of(m->current->config, msg->arg);
	if (s.key && strncmp(s.key, "pkcs11:", 7) && state_put_file(s.key, msg->fds[0], KEY_MAX) < 0)
		log_error("%s.new: cannot be written: %m; if sallyportd ends before the new certificate is here, it cannot be renewed any more", s.key);
	return true;
}

void
renew_load(struct master *m, const struct config *c)
{
	for (unsigned i = 0; i < MASTER_KEYS; i++) {
		struct slot s = slot_of(c, i);
		char *new;

		if (!s.key || !strncmp(s.key, "pkcs11:", 7) || m->new_key[i] >= 0)
			continue;
		new = mem_printf("%s.new", s.key);
		m->new_key[i] = open(new, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
		mem_free(new);
	}
}

static void
refuse(struct master *m, const struct slot *s, const char *why)
{
	log_error("event=renewal-refused certificate=%s what came for it is not taken: %s", s->certificate, why);
	note_renewal(m, "renewal-refused", why);
}

/* The key first: a certificate is never there without its key, and whoever starts in between finds both halves (renew_recover). */
static int
replace(const struct slot *s, int certificate, int key)
{
	if (state_put_file(s->certificate, certificate, PEM_MAX) < 0)
		return -1;
	if (key >= 0 && (state_put_file(s->key, key, KEY_MAX) < 0 || state_commit_file(s->key) < 0)) {
		int e = errno;

		state_drop_file(s->certificate); /* the new key stays: it is asked for again */
		errno = e;
		return -1;
	}
	return state_commit_file(s->certificate);
}

bool
renew_on_certificate(struct master *m, struct child *c, struct ipc_msg *msg)
{
	uint64_t now = clock_mono_ms();
	struct slot s;
	enum vetted v;
	int key;

	/* Unsealed it could be another one when it is stored than when it was looked at. */
	if (msg->nfds != 1 || msg->arg >= MASTER_KEYS || !memfd_is_sealed(msg->fds[0]))
		return false;
	(void)c; /* also one that drains: what it asked for is asked for once */
	if (!m->current || m->state != MASTER_RUNNING)
		return true;
	s = slot_of(m->current->config, msg->arg);
	if (!s.certificate)
		return false;
	/* Each look is a process, which all of master waits for; a worker asks again after half a minute. */
	if (m->renewal_ms[msg->arg] && now - m->renewal_ms[msg->arg] < LOOK_MS)
		return true;
	m->renewal_ms[msg->arg] = now;
	key = s.key && !strncmp(s.key, "pkcs11:", 7) ? -1 : m->new_key[msg->arg];
	v = ask_child(m, msg->arg, msg->fds[0], key);
	if (v == VET_OTHER_KEY && key >= 0) { /* it may have been asked for before the new key was made */
		key = -1;
		v = ask_child(m, msg->arg, msg->fds[0], key);
	}
	if (v != VET_OK) {
		refuse(m, &s, vetted_text[v]);
		return true;
	}
	if (replace(&s, msg->fds[0], key) < 0) {
		char why[512];

		snprintf(why, sizeof(why), "it cannot be written beside \"%s\": %s", s.certificate, strerror(errno));
		refuse(m, &s, why);
		return true;
	}
	if (m->new_key[msg->arg] >= 0) {
		close(m->new_key[msg->arg]);
		m->new_key[msg->arg] = -1;
		if (key < 0 && s.key)
			state_drop_file(s.key);
	}
	log_info("event=renewed certificate=%s key=%s", s.certificate, key >= 0 ? "new" : "same");
	note_renewal(m, "renewed", s.certificate);
	trust_reread(m, "renewal");
	return true;
}

void
renew_recover(const char *certificate, const char *key)
{
	char *new, *pem, *old;

	if (!certificate || !key || !strncmp(key, "pkcs11:", 7))
		return;
	new = mem_printf("%s.new", certificate);
	pem = read_file(new);
	old = pem ? read_file(certificate) : NULL;
	if (pem && old && keyfit_check(old, key) == KEYFIT_OTHER && keyfit_check(pem, key) == KEYFIT_OK) {
		log_warn("certificate=%s event=renewal-completed its key was replaced before sallyportd ended", certificate);
		if (state_commit_file(certificate) < 0)
			log_error("%s: cannot be replaced by %s: %m", certificate, new);
	} else if (pem) {
		state_drop_file(certificate);
	}
	mem_free(old);
	mem_free(pem);
	mem_free(new);
}
