/* SPDX-License-Identifier: Apache-2.0 */
/* Keys in an HSM: the URIs that name them, the module that has them, and what that may use. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "gateway/config/p11uri.h"

static void
check_pin_file(struct check *ck, char *const *member, const void *owner, const char *file)
{
	struct stat st;

	if (!ck->files)
		return;
	if (stat(file, &st) != 0)
		check_fault(ck, member, owner, "cannot read the PIN's file \"%s\": %s", file, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		check_fault(ck, member, owner, "cannot read the PIN's file \"%s\": it is not a regular file", file);
	else if (st.st_mode & 077)
		check_fault(ck, member, owner, "the PIN's file \"%s\" may be read or written by more than its owner; chmod 600 it", file);
}

/* True for a key of an HSM. */
static bool
check_uri(struct check *ck, char *const *member, const void *owner)
{
	char *key, *pin_file;
	const char *why;

	if (!p11uri_is(*member))
		return false;
	/* The URI is not repeated: it may have a PIN in it. */
	if (p11uri_split(*member, &key, &pin_file, &why) < 0) {
		check_fault(ck, member, owner, "the pkcs11: URI cannot be used: %s", why);
		return true;
	}
	if (pin_file)
		check_pin_file(ck, member, owner, pin_file);
	if (!ck->c->hsm.module)
		check_fault(ck, member, owner, "a pkcs11: key needs \"hsm\" with the \"module\" that has it");
	mem_free(key);
	mem_free(pin_file);
	return true;
}

static bool
is_line(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ')
			return false;
	return true;
}

static void
check_paths(struct check *ck)
{
	struct config *c = ck->c;
	struct stat st;

	for (size_t i = 0; i < c->hsm.npaths; i++) {
		const char *path = c->hsm.paths[i];

		if (path[0] != '/' || !is_line(path))
			check_fault(ck, &c->hsm.paths, &c->hsm, "\"%s\" is no absolute path", path);
		else if (path[strspn(path, "/")] == '\0')
			check_fault(ck, &c->hsm.paths, &c->hsm, "\"/\" would open everything; name what the module needs");
		else if (ck->files && stat(path, &st) != 0)
			check_fault(ck, &c->hsm.paths, &c->hsm, "cannot find \"%s\": %s", path, strerror(errno));
		else if (ck->files && S_ISBLK(st.st_mode))
			check_fault(ck, &c->hsm.paths, &c->hsm, "\"%s\" is a disk", path);
	}
	for (size_t i = 0; i < c->hsm.nenvironment; i++) {
		const char *text = c->hsm.environment[i], *equals = strchr(text, '=');

		if (!equals || equals == text || !is_line(text))
			check_fault(ck, &c->hsm.environment, &c->hsm, "\"%s\" is not NAME=VALUE", text);
		else if (!strncmp(text, "LD_", 3))
			check_fault(ck, &c->hsm.environment, &c->hsm, "\"%.*s\" comes too late for the dynamic linker", (int)(equals - text), text);
	}
}

void
check_hsm(struct check *ck)
{
	struct config *c = ck->c;
	bool used = check_uri(ck, &c->identity.key, &c->identity);

	used |= check_uri(ck, &c->inside.key, &c->inside);
	used |= check_uri(ck, &c->enrol.key, &c->enrol);
	if (!c->hsm.module) {
		if (c->hsm.npaths || c->hsm.nenvironment)
			check_fault(ck, c->hsm.npaths ? (void *)&c->hsm.paths : &c->hsm.environment, &c->hsm, "\"hsm\" needs \"module\"");
		return;
	}
	if (!is_line(c->hsm.module))
		check_fault(ck, &c->hsm.module, &c->hsm, "\"module\" is no file name");
	else if (ck->files && access(c->hsm.module, R_OK) != 0)
		check_fault(ck, &c->hsm.module, &c->hsm, "cannot read \"%s\": %s", c->hsm.module, strerror(errno));
	if (!used)
		check_warn(ck, &c->hsm.module, &c->hsm, "no key is a pkcs11: URI, so \"hsm\" has no effect");
	check_paths(ck);
}
