/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table, sandboxes[], says what each role may do; groups of system calls are named once. Calls whose arguments
 * decide are rules with a comparison: no memory becomes executable, sockets are of the families a role needs,
 * signals go to ourselves only. Looking for a file by path gets EACCES instead of death, since libc and OpenSSL
 * look for files (/etc/localtime, openssl.cnf) that they can do without.
 */
#include "gateway/process/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <unistd.h>

#include "gateway/process/asan.h"

/* ---- the table ---- */

enum {
	MAY_ACCEPT = 1,     /* accept4() on listening sockets that it was given */
	MAY_INET = 2,       /* TCP sockets, and connecting them */
	MAY_UNIX = 4,       /* Unix stream and datagram sockets, and connecting them */
	MAY_DIAG = 8,       /* NETLINK_SOCK_DIAG: which user owns a loopback connection */
	MAY_READ_DIR = 16,  /* files beneath dir_fd */
	MAY_WRITE_DIR = 32,
	MAY_LOCK_MEMORY = 64,
	MAY_SHARE = 256,    /* sealed memory for others */
	MAY_DEVICE = 512,   /* ioctl() on devices that it was named */
	MAY_ALARM = 1024,   /* to be ended when something takes too long */
	MAY_TRY = 2048,     /* what is not allowed is refused, not fatal: strangers' code that tries to write to syslog, for one */
	SPECULATE = 128,    /* no speculation barriers in user space: it holds no secret that it would have to hide from itself */
};

static const struct sandbox {
	unsigned may;
	rlim_t nofile;      /* 0: as it is */
} sandboxes[] = {
	[ROLE_KEYS] = { MAY_LOCK_MEMORY | MAY_SHARE, 4096 },
	[ROLE_JOURNAL] = { MAY_READ_DIR | MAY_WRITE_DIR | MAY_UNIX | SPECULATE, 4096 },
	[ROLE_CONTROL] = { MAY_ACCEPT | SPECULATE, 1024 },
	[ROLE_WORKER] = { MAY_ACCEPT | MAY_INET | MAY_UNIX | MAY_DIAG | MAY_SHARE | SPECULATE, 0 },
	[ROLE_CA] = { MAY_READ_DIR | MAY_WRITE_DIR | MAY_LOCK_MEMORY, 256 }, /* its store */
	[SANDBOX_HSM] = { MAY_READ_DIR | MAY_WRITE_DIR | MAY_LOCK_MEMORY | MAY_ALARM | MAY_TRY, 1024 },
	[SANDBOX_POLICY] = { MAY_READ_DIR | SPECULATE, 64 },
};

#define CALL(name) SCMP_SYS(name)

/* What every role does: memory, time, its descriptors, leaving. */
static const int calls_all[] = {
	CALL(read), CALL(readv), CALL(write), CALL(writev), CALL(close), CALL(fstat), CALL(lseek), CALL(fcntl), CALL(dup),
	CALL(munmap), CALL(mremap), CALL(madvise), CALL(brk),
	CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(sigaltstack),
	CALL(poll), CALL(ppoll), CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_pwait2),
	CALL(eventfd2), CALL(timerfd_create), CALL(timerfd_settime), CALL(timerfd_gettime),
	CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(time), CALL(nanosleep), CALL(clock_nanosleep),
	CALL(getrandom), CALL(futex), CALL(sched_yield), CALL(sched_getaffinity), CALL(getcpu), CALL(restart_syscall),
	CALL(getpid), CALL(gettid), CALL(getppid), CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid),
	CALL(getrlimit), CALL(getrusage), CALL(uname), CALL(sysinfo), CALL(set_robust_list), CALL(rseq), CALL(membarrier),
	CALL(recvmsg), CALL(sendmsg), CALL(recvfrom), CALL(sendto), CALL(getsockopt), CALL(setsockopt), CALL(shutdown),
	CALL(getsockname), CALL(getpeername),
	CALL(exit), CALL(exit_group),
};
/* What looks at paths: refused, not fatal, where a role has no directory. */
static const int calls_look[] = {
	CALL(open), CALL(openat), CALL(openat2), CALL(stat), CALL(lstat), CALL(access), CALL(faccessat), CALL(faccessat2),
	CALL(readlink), CALL(readlinkat), CALL(getcwd), CALL(statfs),
};
static const int calls_connect[] = { CALL(connect), CALL(pipe2), CALL(splice) };
static const int calls_read_dir[] = {
	CALL(stat), CALL(lstat), CALL(newfstatat), CALL(statx), CALL(getdents64), CALL(access), CALL(faccessat), CALL(faccessat2),
	CALL(readlink), CALL(readlinkat), CALL(getcwd), CALL(statfs), CALL(fstatfs), CALL(pread64), CALL(fadvise64),
};
static const int calls_write_dir[] = {
	CALL(open), CALL(openat), CALL(mkdir), CALL(mkdirat), CALL(unlink), CALL(unlinkat), CALL(rename), CALL(renameat), CALL(renameat2),
	CALL(linkat), CALL(pwrite64), CALL(pwritev), CALL(fsync), CALL(fdatasync), CALL(sync_file_range), CALL(ftruncate),
	CALL(fallocate), CALL(flock), CALL(fchmod), CALL(fchdir),
};

/* ---- seccomp ---- */

static bool failed;

static void
rule(scmp_filter_ctx f, uint32_t action, int call, unsigned n, const struct scmp_arg_cmp *args)
{
	int r;

	if (call == __NR_SCMP_ERROR)
		return;
	r = seccomp_rule_add_array(f, action, call, n, args);
	/* A call that this architecture does not have has a negative number: nothing to allow. EEXIST: said twice. */
	if (r < 0 && call >= 0 && r != -EEXIST)
		failed = true;
}

static void
allow(scmp_filter_ctx f, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rule(f, SCMP_ACT_ALLOW, calls[i], 0, NULL);
}
#define ALLOW(f, list) allow(f, list, sizeof(list) / sizeof((list)[0]))

/* Argument n, an int (the upper half of its register is not looked at), is v once only the bits of "mask" are left. */
static struct scmp_arg_cmp
masked(unsigned n, uint32_t mask, uint32_t v)
{
	return (struct scmp_arg_cmp){ .arg = n, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = v };
}

static struct scmp_arg_cmp
is(unsigned n, uint32_t v)
{
	return masked(n, UINT32_MAX, v);
}

static struct scmp_arg_cmp
is_null(unsigned n)
{
	return (struct scmp_arg_cmp){ .arg = n, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0 };
}

static void
rule1(scmp_filter_ctx f, uint32_t action, int call, struct scmp_arg_cmp a)
{
	rule(f, action, call, 1, &a);
}

static void
rule2(scmp_filter_ctx f, uint32_t action, int call, struct scmp_arg_cmp a, struct scmp_arg_cmp b)
{
	const struct scmp_arg_cmp args[2] = { a, b };

	rule(f, action, call, 2, args);
}

static void
socket_family(scmp_filter_ctx f, unsigned domain, unsigned type)
{
	/* The two flag bits that may be or'ed to the type are not looked at. */
	rule2(f, SCMP_ACT_ALLOW, CALL(socket), is(0, domain),
	    masked(1, (uint32_t)~(SOCK_NONBLOCK | SOCK_CLOEXEC), type));
}

static void
rules_for_arguments(scmp_filter_ctx f)
{
	const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);

	/* No memory is ever made executable. */
	rule1(f, SCMP_ACT_ALLOW, CALL(mmap), masked(2, PROT_EXEC, 0));
	rule1(f, SCMP_ACT_ALLOW, CALL(mprotect), masked(2, PROT_EXEC, 0));
	/* abort() only. */
	rule1(f, SCMP_ACT_ALLOW, CALL(tgkill), is(0, (uint32_t)getpid()));
	/* Reading its own limits, setting none. */
	rule2(f, SCMP_ACT_ALLOW, CALL(prlimit64), is(0, 0), is_null(2));
	rule1(f, SCMP_ACT_ALLOW, CALL(prctl), is(0, PR_SET_NAME));
	rule1(f, SCMP_ACT_ALLOW, CALL(prctl), is(0, PR_GET_DUMPABLE));
	rule1(f, refuse, CALL(prctl), is(0, 0x53564d41 /* PR_SET_VMA, by malloc */));
	rule1(f, SCMP_ACT_ALLOW, CALL(ioctl), is(1, FIONREAD));
	rule1(f, SCMP_ACT_ALLOW, CALL(ioctl), is(1, FIONBIO));
	rule1(f, SCMP_ACT_ERRNO(ENOTTY), CALL(ioctl), is(1, TCGETS));
}

static void
rules_for_paths(scmp_filter_ctx f, unsigned may)
{
	if (may & MAY_READ_DIR || WITH_ASAN) {
		ALLOW(f, calls_read_dir);
	} else {
		/* fstat() is fstatat() of a descriptor and no path in glibc. */
		rule1(f, SCMP_ACT_ALLOW, CALL(newfstatat), masked(3, AT_EMPTY_PATH, AT_EMPTY_PATH));
		rule1(f, SCMP_ACT_ERRNO(EACCES), CALL(newfstatat), masked(3, AT_EMPTY_PATH, 0));
		rule(f, SCMP_ACT_ERRNO(EACCES), CALL(statx), 0, NULL);
		rule(f, SCMP_ACT_ALLOW, CALL(pread64), 0, NULL);
		for (size_t i = 0; i < sizeof(calls_look) / sizeof(calls_look[0]); i++)
			rule(f, SCMP_ACT_ERRNO(EACCES), calls_look[i], 0, NULL);
		return;
	}
	rule(f, SCMP_ACT_ERRNO(ENOSYS), CALL(openat2), 0, NULL);
	if (may & MAY_WRITE_DIR) {
		ALLOW(f, calls_write_dir);
		return;
	}
	/* Read-only: neither written, nor made, nor cut. */
	rule1(f, SCMP_ACT_ALLOW, CALL(openat), masked(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	rule1(f, SCMP_ACT_ALLOW, CALL(open), masked(1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	rule1(f, SCMP_ACT_ERRNO(EACCES), CALL(openat), masked(2, O_ACCMODE, O_WRONLY));
	rule1(f, SCMP_ACT_ERRNO(EACCES), CALL(openat), masked(2, O_ACCMODE, O_RDWR));
}

static int
enter_seccomp(const struct sandbox *s, const char **why)
{
	scmp_filter_ctx f = seccomp_init(s->may & MAY_TRY ? SCMP_ACT_ERRNO(EACCES) : SCMP_ACT_KILL_PROCESS);
	int r;

	if (!f) {
		*why = "seccomp: out of memory";
		return -1;
	}
	failed = false;
	seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: the same few steps for each call */
	if (s->may & SPECULATE)
		seccomp_attr_set(f, SCMP_FLTATR_CTL_SSB, 1);

	ALLOW(f, calls_all);
	rules_for_arguments(f);
	rules_for_paths(f, s->may);
	if (s->may & MAY_ACCEPT)
		rule(f, SCMP_ACT_ALLOW, CALL(accept4), 0, NULL);
	if (s->may & (MAY_INET | MAY_UNIX))
		ALLOW(f, calls_connect);
	if (s->may & MAY_INET) {
		socket_family(f, AF_INET, SOCK_STREAM);
		socket_family(f, AF_INET6, SOCK_STREAM);
	}
	if (s->may & MAY_UNIX) {
		socket_family(f, AF_UNIX, SOCK_STREAM);
		socket_family(f, AF_UNIX, SOCK_DGRAM);
	}
	if (s->may & MAY_DIAG)
		rule2(f, SCMP_ACT_ALLOW, CALL(socket), is(0, AF_NETLINK), is(2, NETLINK_SOCK_DIAG));
	if (s->may & MAY_LOCK_MEMORY) {
		rule(f, SCMP_ACT_ALLOW, CALL(mlock), 0, NULL);
		rule(f, SCMP_ACT_ALLOW, CALL(mlock2), 0, NULL);
		rule(f, SCMP_ACT_ALLOW, CALL(munlock), 0, NULL);
	}
	if (s->may & MAY_SHARE)
		rule(f, SCMP_ACT_ALLOW, CALL(memfd_create), 0, NULL);
	if (s->may & MAY_ALARM) {
		rule(f, SCMP_ACT_ALLOW, CALL(alarm), 0, NULL);
		rule(f, SCMP_ACT_ALLOW, CALL(setitimer), 0, NULL);
	}
	if (s->may & MAY_DEVICE)
		rule(f, SCMP_ACT_ALLOW, CALL(ioctl), 0, NULL);
	if (failed) {
		*why = "seccomp: the filter cannot be made";
		seccomp_release(f);
		return -1;
	}
	r = seccomp_load(f);
	if (r == -EINVAL && s->may & SPECULATE) { /* Linux before 4.17 has no such flag */
		seccomp_attr_set(f, SCMP_FLTATR_CTL_SSB, 0);
		r = seccomp_load(f);
	}
	seccomp_release(f);
	if (r == -ENOSYS)
		return 0;
	if (r < 0) {
		*why = "seccomp: the kernel refused the filter";
		return -1;
	}
	return 1;
}

/* ---- Landlock: its own names for what <linux/landlock.h> of older systems lacks ---- */

struct ll_ruleset_attr {
	uint64_t fs, net, scoped;
};
struct ll_path_beneath {
	uint64_t access;
	int32_t parent;
} __attribute__((packed));
enum {
	LL_EXECUTE = 1 << 0, LL_WRITE_FILE = 1 << 1, LL_READ_FILE = 1 << 2, LL_READ_DIR = 1 << 3, LL_REMOVE_DIR = 1 << 4,
	LL_REMOVE_FILE = 1 << 5, LL_MAKE_DIR = 1 << 7, LL_MAKE_REG = 1 << 8, LL_REFER = 1 << 13, LL_TRUNCATE = 1 << 14,
	LL_IOCTL_DEV = 1 << 15,
	LL_FS_V1 = (1 << 13) - 1,
	LL_BIND_TCP = 1, LL_CONNECT_TCP = 2,
	LL_SCOPE_ABSTRACT = 1, LL_SCOPE_SIGNAL = 2,
	LL_RULE_PATH_BENEATH = 1, LL_CREATE_VERSION = 1,
};

static int
ll_allow(int ruleset, int fd, uint64_t access)
{
	struct ll_path_beneath p = { .access = access, .parent = fd };

	return (int)syscall(SYS_landlock_add_rule, ruleset, LL_RULE_PATH_BENEATH, &p, 0);
}

static int
ll_allow_path(int ruleset, const char *path, uint64_t known, const char **why)
{
	const uint64_t write_file = LL_WRITE_FILE | LL_TRUNCATE | LL_IOCTL_DEV, read_dir = LL_READ_FILE | LL_READ_DIR,
		       write_dir = write_file | LL_REMOVE_FILE | LL_REMOVE_DIR | LL_MAKE_DIR | LL_MAKE_REG;
	int fd = open(path, O_PATH | O_CLOEXEC), r = -1;
	uint64_t access;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		*why = "a path that it needs is not there";
	} else {
		access = S_ISDIR(st.st_mode) ? read_dir : LL_READ_FILE;
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
			access |= S_ISDIR(st.st_mode) ? write_dir : write_file;
		r = ll_allow(ruleset, fd, access & known);
		if (r < 0)
			*why = "landlock: the kernel refused a path";
	}
	if (fd >= 0)
		close(fd);
	return r;
}

struct places {
	int dir_fd;                /* -1: none */
	const char *const *paths;
	size_t npaths;
};

static int
enter_landlock(const struct sandbox *s, const struct places *at, uint32_t *bits, const char **why)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LL_CREATE_VERSION);
	struct ll_ruleset_attr attr = { .fs = LL_FS_V1 };
	uint64_t dir = LL_READ_FILE | LL_READ_DIR;
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	int ruleset, result = -1;

	if (abi < 1)
		return 0; /* not in this kernel, or switched off */
	attr.fs |= (abi >= 2 ? LL_REFER : 0) | (abi >= 3 ? LL_TRUNCATE : 0) | (abi >= 5 ? LL_IOCTL_DEV : 0);
	attr.net = LL_BIND_TCP | (s->may & MAY_INET ? 0 : LL_CONNECT_TCP);
	attr.scoped = LL_SCOPE_ABSTRACT | LL_SCOPE_SIGNAL;
	if (s->may & MAY_WRITE_DIR)
		dir |= LL_WRITE_FILE | LL_REMOVE_FILE | LL_REMOVE_DIR | LL_MAKE_DIR | LL_MAKE_REG |
		    (attr.fs & (LL_REFER | LL_TRUNCATE));

	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0) {
		*why = "landlock: the kernel refused the rule set";
		return -1;
	}
	if (s->may & MAY_READ_DIR && at->dir_fd >= 0 && ll_allow(ruleset, at->dir_fd, dir) < 0) {
		*why = "landlock: the kernel refused the directory";
		goto out;
	}
	for (size_t i = 0; i < at->npaths; i++)
		if (ll_allow_path(ruleset, at->paths[i], attr.fs, why) < 0)
			goto out;
	if (WITH_ASAN) { /* test builds read their own symbols and /proc/self/maps */
		int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (root >= 0) {
			ll_allow(ruleset, root, LL_READ_FILE | LL_READ_DIR);
			close(root);
		}
	}
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0) {
		*why = "landlock: the kernel refused to confine the process";
		goto out;
	}
	*bits |= SANDBOX_LANDLOCK_FS | (abi >= 4 ? SANDBOX_LANDLOCK_NET : 0) | (abi >= 6 ? SANDBOX_LANDLOCK_SCOPE : 0);
	result = 0;
out:
	close(ruleset);
	return result;
}

/* ---- what others call ---- */

const char *
sandbox_bit_name(unsigned n)
{
	static const char *const names[] = {
		"own-user", "limits", "no-new-privileges", "seccomp", "landlock-files", "landlock-network", "landlock-scope",
	};

	return n < sizeof(names) / sizeof(names[0]) ? names[n] : NULL;
}

int
sandbox_limits(unsigned role, uint32_t *bits, const char **why)
{
	const struct rlimit none = { 0, 0 };
	struct rlimit nofile;

	if (setrlimit(RLIMIT_CORE, &none) < 0) {
		*why = "core files cannot be switched off";
		return -1;
	}
	if (setrlimit(RLIMIT_NPROC, &none) < 0) {
		*why = "the limit of processes cannot be set";
		return -1;
	}
	if (sandboxes[role].nofile && getrlimit(RLIMIT_NOFILE, &nofile) == 0 && nofile.rlim_cur > sandboxes[role].nofile) {
		nofile.rlim_cur = nofile.rlim_max = sandboxes[role].nofile;
		if (setrlimit(RLIMIT_NOFILE, &nofile) < 0) {
			*why = "the limit of descriptors cannot be set";
			return -1;
		}
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		*why = "the process cannot be made undumpable";
		return -1;
	}
	*bits |= SANDBOX_LIMITS;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		*why = "no_new_privs cannot be set";
		return -1;
	}
	*bits |= SANDBOX_NO_NEW_PRIVS;
	return 0;
}

static int
enter(const struct sandbox *s, const struct places *at, uint32_t *bits, const char **why)
{
	int r;

	if (enter_landlock(s, at, bits, why) < 0)
		return -1;
	r = enter_seccomp(s, why);
	if (r < 0)
		return -1;
	if (r > 0)
		*bits |= SANDBOX_SECCOMP;
	return 0;
}

int
sandbox_enter(unsigned role, int dir_fd, uint32_t *bits, const char **why)
{
	const struct places at = { .dir_fd = dir_fd };

	if (role == ROLE_MASTER || role > SANDBOX_POLICY) {
		*why = "no such sandbox";
		return -1;
	}
	return enter(&sandboxes[role], &at, bits, why);
}

int
sandbox_enter_paths(const char *const *paths, size_t n, uint32_t *bits, const char **why)
{
	const struct places at = { .dir_fd = -1, .paths = paths, .npaths = n };
	struct sandbox s = sandboxes[SANDBOX_HSM];
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		if (stat(paths[i], &st) < 0) {
			*why = "a path that it needs is not there";
			return -1;
		}
		s.may |= S_ISSOCK(st.st_mode) ? MAY_UNIX : S_ISCHR(st.st_mode) ? MAY_DEVICE : 0;
	}
	return enter(&s, &at, bits, why);
}
