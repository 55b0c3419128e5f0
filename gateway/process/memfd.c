/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3 */
#endif
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int
memfd_new(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

int
memfd_seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, ALL_SEALS);
}

int
memfd_sealed(const char *name, const void *p, size_t n)
{
	const uint8_t *at = p;
	int fd = memfd_new(name), saved;

	if (fd < 0)
		return -1;
	while (n > 0) {
		ssize_t put = write(fd, at, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			goto fail;
		at += put;
		n -= (size_t)put;
	}
	if (memfd_seal(fd) == 0)
		return fd;
fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

bool
memfd_is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & ALL_SEALS) == ALL_SEALS;
}

const void *
memfd_map(int fd, size_t max, size_t *len, const char **why)
{
	struct stat st;
	void *p;

	*len = 0;
	if (!memfd_is_sealed(fd)) {
		*why = "not sealed memory";
		return NULL;
	}
	if (fstat(fd, &st) < 0 || st.st_size <= 0) {
		*why = "empty";
		return NULL;
	}
	if ((uint64_t)st.st_size > max) {
		*why = "too large";
		return NULL;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED) {
		*why = "cannot be mapped";
		return NULL;
	}
	*len = (size_t)st.st_size;
	return p;
}

void
memfd_unmap(const void *p, size_t len)
{
	if (p)
		munmap((void *)(uintptr_t)p, len);
}
