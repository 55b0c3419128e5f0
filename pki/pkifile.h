/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the CA store, of issued certificates and of pairings. A file is either wholly there or not at all, also
 * after a crash: written beside its place, synced, then moved.
 */
#ifndef PKI_PKIFILE_H
#define PKI_PKIFILE_H

#include <stddef.h>
#include <sys/types.h>

/* Content as text, NUL-terminated (mem_free()), or NULL with errno. Files beyond max octets give EFBIG, with a NUL inside EINVAL. */
char *pkifile_read(const char *path, size_t max);
/* The same for a secret: EPERM when others than its owner may read it. Wipe it after use. */
char *pkifile_read_secret(const char *path, size_t max);
/* 0, or -1 with errno. New: EEXIST when there is one, which stays untouched. */
int pkifile_write_new(const char *path, mode_t mode, const void *p, size_t n);
int pkifile_replace(const char *path, mode_t mode, const void *p, size_t n);
/*
 * The same, and the file belongs to somebody (NULL: to whoever runs us) before it has its name: so that what root writes stays usable for
 * the user whose directory it is. Only root can give files away; others leave it.
 */
struct pkifile_owner {
	uid_t uid;
	gid_t gid;
};
int pkifile_write_new_as(const char *path, mode_t mode, const void *p, size_t n, const struct pkifile_owner *owner);
int pkifile_replace_as(const char *path, mode_t mode, const void *p, size_t n, const struct pkifile_owner *owner);
/*
 * Two files that belong together (second NULL: one), replaced with the rights and owners that they had or, when new, these modes; in this order and at
 * once: whatever is likely to fail was done before. 0, or -1 with errno.
 */
int pkifile_replace_pair(const char *first, mode_t first_mode, const char *first_text, const char *second, mode_t second_mode, const char *second_text);
/* All of it, whatever it takes. 0, or -1 with errno. */
int pkifile_write_all(int fd, const void *p, size_t n);
/* Make what happened to directory entries last. */
int pkifile_sync_dir(const char *dir);
/* "a/b" for "a/b/c", "." for "c", "/" for "/c". mem_free(). */
char *pkifile_dirname(const char *path);

#endif
