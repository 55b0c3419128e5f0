/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process/privs.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int
privs_lookup(const char *prefix, unsigned role, uid_t *uid, gid_t *gid, char *why, size_t why_size)
{
	const char *name = role == PRIVS_POLICY ? "policy" : role_name((enum role)role);
	char user[128], *end;
	struct passwd *pw;

	if (*prefix >= '0' && *prefix <= '9') {
		unsigned long base = strtoul(prefix, &end, 10);

		if (*end || base < 1000 || base > 2000000000UL) {
			snprintf(why, why_size, "user_prefix \"%s\" is no usable number; give a base between 1000 and "
			    "2000000000, or a prefix of user names such as \"sallyport-\"", prefix);
			return -1;
		}
		*uid = (uid_t)(base + role);
		*gid = (gid_t)(base + role);
		return 0;
	}
	snprintf(user, sizeof(user), "%s%s", prefix, name);
	errno = 0;
	pw = getpwnam(user);
	if (!pw) {
		snprintf(why, why_size, "there is no user \"%s\" for the role %s; create the users with "
		    "\"systemd-sysusers sallyport.conf\", or set user_prefix to an unused number such as \"61000\"",
		    user, name);
		return -1;
	}
	if (pw->pw_uid == 0 || pw->pw_gid == 0) {
		snprintf(why, why_size, "the user \"%s\" of the role %s is root or in root's group; give it ids of its own",
		    user, name);
		return -1;
	}
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return 0;
}

static int
set_caps(uint32_t low)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
	struct __user_cap_data_struct data[2];

	memset(data, 0, sizeof(data));
	data[0].effective = data[0].permitted = low;
	return (int)syscall(SYS_capset, &head, data);
}

/*
 * What lets a user other than root read what only root may. A container's root often has the second alone: it writes as
 * well, which the sandbox of whoever keeps it does not let it.
 */
static uint32_t
right_to_read(void)
{
	static const uint32_t rights[] = { 1U << CAP_DAC_READ_SEARCH, 1U << CAP_DAC_OVERRIDE };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return 0;
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
		if (data[0].permitted & rights[i])
			return rights[i];
	return 0;
}

int
privs_drop(uid_t uid, gid_t gid, bool keep_read, const char **why)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	*why = NULL;
	if (uid == 0 || gid == 0)
		*why = "the role's user is root";
	else if (keep_read && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		*why = "capabilities cannot be kept";
	else if (setgroups(0, NULL) < 0)
		*why = "setgroups failed";
	else if (setresgid(gid, gid, gid) < 0)
		*why = "setresgid failed";
	else if (setresuid(uid, uid, uid) < 0)
		*why = "setresuid failed";
	else if (set_caps(keep_read ? right_to_read() : 0) < 0)
		*why = "capset failed";
	if (*why)
		return -1;

	/* The proof: nothing of root is left in the ids, and no way leads back. */
	if (getresuid(&r, &e, &s) < 0 || r != uid || e != uid || s != uid ||
	    getresgid(&rg, &eg, &sg) < 0 || rg != gid || eg != gid || sg != gid)
		*why = "the ids are not those that were set";
	else if (getgroups(0, NULL) != 0)
		*why = "supplementary groups are left";
	else if (setuid(0) == 0 || seteuid(0) == 0 || setreuid((uid_t)-1, 0) == 0)
		*why = "root could be regained";
	else if (setgid(0) == 0 || setegid(0) == 0)
		*why = "root's group could be regained";
	else if (set_caps(1U << CAP_SETUID) == 0)
		*why = "a capability could be regained";
	return *why ? -1 : 0;
}
