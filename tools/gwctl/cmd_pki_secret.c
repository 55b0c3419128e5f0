/* SPDX-License-Identifier: Apache-2.0 */
/* Passphrases of CA keys: from a file, or from the terminal, where the echo is back on however we end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "pki/pkifile.h"
#include "tools/gwctl/cmd_pki.h"

#define PASSPHRASE_MAX 1023
#define PASSPHRASE_MIN 8

/* The first line. */
static char *
from_file(const char *path, struct errs *errs)
{
	struct stat st;
	/* A pipe is a shell's way of saying it; a file must be nobody else's. */
	bool regular = stat(path, &st) == 0 && S_ISREG(st.st_mode);
	char *text = regular ? pkifile_read_secret(path, PASSPHRASE_MAX + 1) : NULL;
	size_t n = 0;
	FILE *f;

	if (!regular && (f = fopen(path, "re")) != NULL) {
		text = mem_zalloc(PASSPHRASE_MAX + 3);
		n = fread(text, 1, PASSPHRASE_MAX + 2, f);
		fclose(f);
	}
	if (text == NULL) {
		errs_add(errs, path, 0, "%s", errno == EPERM && regular ? "others may read this passphrase; \"chmod 600\" it" : strerror(errno));
		return NULL;
	}
	n = strcspn(text, "\r\n");
	text[n] = 0;
	if (n == 0 || n > PASSPHRASE_MAX) {
		errs_add(errs, path, 0, "its first line is %s", n ? "too long for a passphrase" : "empty, and no passphrase");
		pkey_free_pem(text);
		return NULL;
	}
	return text;
}

static volatile sig_atomic_t caught;

static void
on_signal(int sig)
{
	caught = sig;
}

/* A line without echo. NULL with errno; EINTR: a signal, which is for the caller to raise again. */
static char *
read_hidden(int tty, const char *prompt)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
	struct sigaction action = { .sa_handler = on_signal }, before[5];
	struct pollfd ready = { .fd = tty, .events = POLLIN };
	sigset_t ours, mask;
	struct termios quiet, shown;
	char *line = mem_zalloc(PASSPHRASE_MAX + 2);
	int err = 0;
	size_t n = 0;

	caught = 0;
	if (tcgetattr(tty, &shown) != 0) {
		mem_free(line);
		return NULL;
	}
	/* They come while we wait and at no other time, so that none is missed. */
	sigemptyset(&ours);
	for (int i = 0; i < 5; i++) {
		sigaddset(&ours, signals[i]);
		sigaction(signals[i], &action, &before[i]);
	}
	sigprocmask(SIG_BLOCK, &ours, &mask);
	quiet = shown;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	if (tcsetattr(tty, TCSAFLUSH, &quiet) != 0 || write(tty, prompt, strlen(prompt)) < 0)
		err = errno;
	while (err == 0 && n <= PASSPHRASE_MAX) {
		ssize_t got = ppoll(&ready, 1, NULL, &mask) < 0 ? -1 : read(tty, line + n, 1);

		if (got < 0)
			err = errno;
		else if (got == 0 && n == 0)
			err = EIO; /* end of input instead of an answer */
		if (got <= 0 || line[n] == '\n')
			break;
		n++;
	}
	line[n] = 0;
	tcsetattr(tty, TCSAFLUSH, &shown);
	if (write(tty, "\n", 1) < 0 && err == 0)
		err = errno;
	for (int i = 0; i < 5; i++)
		sigaction(signals[i], &before[i], NULL);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (err == 0)
		return line;
	pkey_free_pem(line);
	errno = err;
	return NULL;
}

static char *
ask(const char *prompt, struct errs *errs)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	char *line = NULL;

	if (tty < 0) {
		errs_add(errs, NULL, 0, "the key is encrypted and there is no terminal to ask on; --passphrase-file FILE");
		return NULL;
	}
	line = read_hidden(tty, prompt);
	if (line == NULL)
		errs_add(errs, NULL, 0, "no passphrase: %s", strerror(errno));
	close(tty);
	if (line == NULL && caught)
		raise(caught);
	return line;
}

int
cmd_pki_unlock(struct cmd_pki_secret *s, const char *dir, struct errs *errs)
{
	s->keys.root_key = s->root_key;
	if (s->file)
		s->passphrase = from_file(s->file, errs);
	else if (!ca_encrypted(dir, &s->keys))
		return 0;
	else
		s->passphrase = ask("Passphrase of the CA's keys: ", errs);
	s->keys.passphrase = s->passphrase;
	return s->passphrase ? 0 : -1;
}

int
cmd_pki_new_secret(struct cmd_pki_secret *s, struct errs *errs)
{
	char *again = NULL;
	int rc = -1;

	s->passphrase = s->file ? from_file(s->file, errs) : ask("Passphrase for the CA's keys: ", errs);
	if (s->passphrase == NULL)
		return -1;
	if (strlen(s->passphrase) < PASSPHRASE_MIN) {
		errs_add(errs, s->file, 0, "a passphrase of less than %d characters would protect nothing", PASSPHRASE_MIN);
	} else if (s->file) {
		rc = 0;
	} else if ((again = ask("Again: ", errs)) != NULL) {
		if (strcmp(again, s->passphrase) == 0)
			rc = 0;
		else
			errs_add(errs, NULL, 0, "these are two different passphrases");
	}
	pkey_free_pem(again);
	s->keys.passphrase = s->passphrase;
	return rc;
}

void
cmd_pki_secret_fini(struct cmd_pki_secret *s)
{
	pkey_free_pem(s->passphrase);
	s->passphrase = NULL;
}

struct ca *
cmd_pki_open(struct cmd_pki_secret *s, const char *dir, struct errs *errs)
{
	return cmd_pki_unlock(s, dir, errs) == 0 ? ca_open(dir, &s->keys, errs) : NULL;
}
