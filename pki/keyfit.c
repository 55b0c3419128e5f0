/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/keyfit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define KEY_FILE_MAX 65536

static int
no_passphrase(char *buf, int size, int rw, void *ctx)
{
	bool *asked = ctx;

	(void)buf;
	(void)size;
	(void)rw;
	*asked = true;
	return -1;
}

static X509 *
certificate_of(const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	return x;
}

/* Nothing is freed or wiped: the process ends. */
enum keyfit
keyfit_pem(const char *certificate_pem, const char *key_pem)
{
	X509 *x = certificate_of(certificate_pem);
	bool asked = false;
	EVP_PKEY *key;

	if (!x)
		return KEYFIT_UNKNOWN;
	key = PEM_read_bio_PrivateKey(BIO_new_mem_buf(key_pem, -1), NULL, no_passphrase, &asked);
	if (!key)
		return asked ? KEYFIT_ENCRYPTED : KEYFIT_NO_KEY;
	return EVP_PKEY_eq(X509_get0_pubkey(x), key) == 1 ? KEYFIT_OK : KEYFIT_OTHER;
}

bool
keyfit_same(const char *certificate_pem, const char *other_pem)
{
	X509 *a = certificate_of(certificate_pem), *b = certificate_of(other_pem);
	bool same = a && b && EVP_PKEY_eq(X509_get0_pubkey(a), X509_get0_pubkey(b)) == 1;

	X509_free(a);
	X509_free(b);
	return same;
}

/* In the child. */
static enum keyfit
compare(const char *certificate_pem, const char *key_path)
{
	static char text[KEY_FILE_MAX];
	int fd = open(key_path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return KEYFIT_UNKNOWN;
	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	return keyfit_pem(certificate_pem, text);
}

enum keyfit
keyfit_check(const char *certificate_pem, const char *key_path)
{
	int status;
	pid_t pid;

	if (!strncmp(key_path, "pkcs11:", 7))
		return KEYFIT_UNKNOWN;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		_exit(compare(certificate_pem, key_path));
	}
	if (pid < 0)
		return KEYFIT_UNKNOWN;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return KEYFIT_UNKNOWN;
	return WIFEXITED(status) && WEXITSTATUS(status) <= KEYFIT_UNKNOWN ? (enum keyfit)WEXITSTATUS(status) : KEYFIT_UNKNOWN;
}
