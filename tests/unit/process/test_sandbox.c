/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each role's sandbox, from within: a child enters it and tries what must fail and what must work. Test builds with
 * AddressSanitizer may read files (it reads its own symbols); everything else is the same there.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/process/asan.h"
#include "gateway/process/ipc.h"
#include "gateway/process/memfd.h"
#include "gateway/process/sandbox.h"

static char dir[64];
static int dir_fd;

/* What a child does in its sandbox; 0, or an errno. */
typedef int attempt_fn(void);

enum outcome { WORKS, DENIED /* EACCES or EPERM */, KILLED /* SIGSYS */ };

#define ALL (BIT(SANDBOX_HSM) | (1U << ROLE_KEYS) | (1U << ROLE_JOURNAL) | (1U << ROLE_CONTROL) | (1U << ROLE_WORKER) | (1U << ROLE_CA) | (1U << SANDBOX_POLICY))
#define BIT(r) (1U << (r))
#define BY(call) ((call) < 0 ? errno : 0)

static int
closing(int fd)
{
	int saved = errno;

	if (fd < 0)
		return saved;
	close(fd);
	return 0;
}

/* ---- what must fail everywhere ---- */

static int
try_exec(void)
{
	char *argv[] = { (char *)(uintptr_t)"/bin/true", NULL };

	return BY(execve("/bin/true", argv, argv + 1));
}

static int
try_fork(void)
{
	return BY(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
}

static int
try_ptrace(void)
{
	return BY(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int
try_vm_read(void)
{
	char c;
	struct iovec iov = { &c, 1 };

	return BY(process_vm_readv(getppid(), &iov, 1, &iov, 1, 0));
}

static int
try_exec_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}

static int
try_make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? 0 : BY(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int
try_signal_parent(void)
{
	return BY(kill(getppid(), 0));
}

static int
try_signal_thread(void)
{
	return BY(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static int
try_udp(void)
{
	return closing(socket(AF_INET, SOCK_DGRAM, 0));
}

static int
try_raw(void)
{
	return closing(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int
try_packet(void)
{
	return closing(socket(AF_PACKET, SOCK_RAW, 0));
}

static int
try_route(void)
{
	return closing(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int
try_bind(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	return BY(bind(0, (struct sockaddr *)&in, sizeof(in)));
}

static int
try_limits(void)
{
	struct rlimit r = { 1, 1 };

	return BY(setrlimit(RLIMIT_NOFILE, &r));
}

static int
try_dumpable(void)
{
	return BY(prctl(PR_SET_DUMPABLE, 1));
}

static int
try_setuid(void)
{
	return BY(syscall(SYS_setuid, 0));
}

static int
try_keyring(void)
{
	return BY(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
}

static int
try_bpf(void)
{
	return BY(syscall(SYS_bpf, 0, NULL, 0));
}

static int
try_io_uring(void)
{
	return BY(syscall(SYS_io_uring_setup, 1, NULL));
}

static int
try_mount(void)
{
	return BY(syscall(SYS_mount, "none", "/", NULL, 0, NULL));
}

static int
try_memfd(void)
{
	return BY(memfd_create("x", 0));
}

/* ---- files ---- */

static int
try_read_passwd(void)
{
	return closing(open("/etc/passwd", O_RDONLY));
}

static int
try_write_tmp(void)
{
	return closing(open("/tmp/sallyport-sandbox-test", O_WRONLY | O_CREAT, 0600));
}

static int
try_stat(void)
{
	struct stat st;

	return BY(syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &st, 0));
}

static int
try_chdir(void)
{
	return BY(chdir("/"));
}

static int
try_read_in_dir(void)
{
	return closing(openat(dir_fd, "file", O_RDONLY));
}

static int
try_write_in_dir(void)
{
	int fd = openat(dir_fd, "new", O_WRONLY | O_CREAT | O_TRUNC, 0600), r;

	if (fd < 0)
		return errno;
	r = write(fd, "x", 1) == 1 && fdatasync(fd) == 0 && ftruncate(fd, 0) == 0 ? 0 : errno;
	close(fd);
	return r ? r : BY(renameat(dir_fd, "new", dir_fd, "newer")) ? errno : BY(unlinkat(dir_fd, "newer", 0));
}

static int
try_escape_dir(void)
{
	return closing(openat(dir_fd, "../../etc/passwd", O_RDONLY));
}

static int
try_exec_in_dir(void)
{
	return BY(syscall(SYS_execveat, dir_fd, "file", NULL, NULL, 0));
}

/* ---- sockets ---- */

static int
try_tcp(void)
{
	return closing(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static int
try_tcp6(void)
{
	return closing(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
}

static int
try_unix(void)
{
	return closing(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static int
try_diag(void)
{
	return closing(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, 4 /* NETLINK_SOCK_DIAG */));
}

static int
try_connect_tcp(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), r = BY(connect(fd, (struct sockaddr *)&in, sizeof(in)));

	return r == ECONNREFUSED ? 0 : r;
}

static int
try_accept(void)
{
	int r = accept4(dir_fd, NULL, NULL, SOCK_CLOEXEC); /* no socket: the call itself is what is tried */

	return r < 0 && errno == ENOTSOCK ? 0 : errno;
}

/* ---- what every role does ---- */

static int
try_ordinary_work(void)
{
	int sv[2] = { -1, -1 }, ep = epoll_create1(EPOLL_CLOEXEC), ev = eventfd(0, EFD_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN };
	void *p = malloc(1 << 20), *q = malloc(16 << 20);
	struct timespec ts;
	struct stat st;
	struct rlimit r;
	time_t t;

	(void)sv;
	if (!p || !q || ep < 0 || ev < 0)
		return ENOMEM;
	memset(p, 1, 1 << 20);
	p = realloc(p, 4 << 20);
	free(p);
	free(q);
	if (clock_gettime(CLOCK_REALTIME, &ts) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) < 0 || epoll_wait(ep, &e, 1, 0) != 0)
		return errno;
	if (fstat(ev, &st) < 0 || getrlimit(RLIMIT_NOFILE, &r) < 0 || poll(NULL, 0, 1) < 0)
		return errno;
	t = time(NULL);
	if (!localtime(&t)) /* looks for /etc/localtime, and does without */
		return EINVAL;
	log_init("test");
	log_set_fd(ev); /* refused by the eventfd: no matter */
	log_info("in the sandbox");
	return 0;
}

static int
try_abort(void)
{
	abort();
}

static const struct {
	const char *what;
	attempt_fn *run;
	unsigned works;      /* bits of roles */
	unsigned denied;     /* told no; all others are killed */
	bool files;          /* AddressSanitizer's builds may read */
} attempts[] = {
	{ "ordinary work", try_ordinary_work, ALL, 0, false },
	{ "exec", try_exec, 0, 0, false },
	{ "exec beneath the directory", try_exec_in_dir, 0, 0, false },
	{ "fork", try_fork, 0, 0, false },
	{ "ptrace", try_ptrace, 0, 0, false },
	{ "reading another process", try_vm_read, 0, 0, false },
	{ "executable memory", try_exec_memory, 0, 0, false },
	{ "making memory executable", try_make_executable, 0, 0, false },
	{ "signals to others", try_signal_parent, 0, 0, false },
	{ "signals to others' threads", try_signal_thread, 0, 0, false },
	{ "UDP", try_udp, 0, 0, false },
	{ "raw sockets", try_raw, 0, 0, false },
	{ "packet sockets", try_packet, 0, 0, false },
	{ "routing netlink", try_route, 0, 0, false },
	{ "bind", try_bind, 0, 0, false },
	{ "new limits", try_limits, 0, 0, false },
	{ "dumpable again", try_dumpable, 0, 0, false },
	{ "setuid", try_setuid, 0, 0, false },
	{ "keyrings", try_keyring, 0, 0, false },
	{ "bpf", try_bpf, 0, 0, false },
	{ "io_uring", try_io_uring, 0, 0, false },
	{ "mount", try_mount, 0, 0, false },
	{ "memfd", try_memfd, BIT(ROLE_KEYS) | BIT(ROLE_WORKER), 0, false }, /* what they give to master */
	{ "chdir", try_chdir, 0, 0, false },
	{ "reading /etc/passwd", try_read_passwd, 0, ALL, true },
	{ "leaving the directory", try_escape_dir, 0, ALL, true },
	{ "writing to /tmp", try_write_tmp, 0, BIT(ROLE_JOURNAL) | BIT(ROLE_KEYS) | BIT(ROLE_CONTROL) | BIT(ROLE_WORKER) |
	    BIT(ROLE_CA) | BIT(SANDBOX_POLICY), true },
	{ "stat of a path", try_stat, BIT(ROLE_JOURNAL) | BIT(ROLE_CA) | BIT(SANDBOX_HSM) | BIT(SANDBOX_POLICY),
	    BIT(ROLE_KEYS) | BIT(ROLE_CONTROL) | BIT(ROLE_WORKER), true },
	{ "reading in the directory", try_read_in_dir, BIT(ROLE_JOURNAL) | BIT(ROLE_CA) | BIT(SANDBOX_HSM) | BIT(SANDBOX_POLICY),
	    BIT(ROLE_KEYS) | BIT(ROLE_CONTROL) | BIT(ROLE_WORKER), true },
	{ "writing in the directory", try_write_in_dir, BIT(ROLE_JOURNAL) | BIT(ROLE_CA) | BIT(SANDBOX_HSM),
	    BIT(ROLE_KEYS) | BIT(ROLE_CONTROL) | BIT(ROLE_WORKER) | BIT(SANDBOX_POLICY), true },
	{ "TCP", try_tcp, BIT(ROLE_WORKER), 0, false },
	{ "TCP over IPv6", try_tcp6, BIT(ROLE_WORKER), 0, false },
	{ "connecting by TCP", try_connect_tcp, BIT(ROLE_WORKER), 0, false },
	{ "Unix sockets", try_unix, BIT(ROLE_WORKER) | BIT(ROLE_JOURNAL), 0, false },
	{ "who owns a connection", try_diag, BIT(ROLE_WORKER), 0, false },
	{ "accept", try_accept, BIT(ROLE_WORKER) | BIT(ROLE_CONTROL), 0, false },
};

static const unsigned roles[] = { ROLE_KEYS, ROLE_JOURNAL, ROLE_CONTROL, ROLE_WORKER, ROLE_CA, SANDBOX_POLICY, SANDBOX_HSM };

static int
in_sandbox(unsigned role, attempt_fn *run)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		uint32_t bits = 0;
		const char *why = "?";
		bool dir_role = role == ROLE_JOURNAL || role == ROLE_CA || role == SANDBOX_POLICY;

		if (sandbox_limits(role, &bits, &why) < 0 ||
		    (role == SANDBOX_HSM ? sandbox_enter_paths((const char *const[]){ dir }, 1, &bits, &why)
					 : sandbox_enter(role, dir_role ? dir_fd : -1, &bits, &why)) < 0) {
			fprintf(stderr, "%s: %s\n", why, strerror(errno));
			_exit(200);
		}
		if ((bits & (SANDBOX_LIMITS | SANDBOX_NO_NEW_PRIVS | SANDBOX_SECCOMP)) !=
		    (SANDBOX_LIMITS | SANDBOX_NO_NEW_PRIVS | SANDBOX_SECCOMP))
			_exit(201);
		_exit(run());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static enum outcome
expected(size_t i, unsigned role)
{
	if (role == SANDBOX_HSM) /* strangers' code: what it may not do is refused, and kills nobody */
		return attempts[i].works & BIT(role) ? WORKS : DENIED;
	return attempts[i].works & BIT(role) ? WORKS : attempts[i].denied & BIT(role) ? DENIED : KILLED;
}

static void
test_attempts(void **state)
{
	/* Without it (an old kernel) only the user of a role keeps it from files. */
	bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
	unsigned wrong = 0;

	(void)state;
	if (!landlock)
		print_message("no Landlock here: files are not tried\n");
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
		for (size_t k = 0; k < sizeof(roles) / sizeof(roles[0]); k++) {
			enum outcome want = expected(i, roles[k]), got;
			int status;

			if ((WITH_ASAN || !landlock) && attempts[i].files && want != WORKS)
				continue;
			status = in_sandbox(roles[k], attempts[i].run);
			if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
				got = KILLED;
			else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
				got = WORKS;
			else
				got = DENIED;
			if (got == DENIED && (!WIFEXITED(status) || (WEXITSTATUS(status) != EACCES && WEXITSTATUS(status) != EPERM)))
				got = want == DENIED ? WORKS : got;
			if (got == want)
				continue;
			wrong++;
			print_error("%s in role %s: status 0x%x, expected %s\n", attempts[i].what,
			    roles[k] == SANDBOX_POLICY ? "policy" : roles[k] == SANDBOX_HSM ? "hsm" : role_name((enum role)roles[k]), status,
			    want == WORKS ? "to work" : want == DENIED ? "to be denied" : "to be killed");
		}
	assert_int_equal(wrong, 0);
}

/* A fault of ours still leaves its mark: abort() is a signal to ourselves. */
static void
test_abort(void **state)
{
	(void)state;
	for (size_t k = 0; k < sizeof(roles) / sizeof(roles[0]); k++) {
		int status = in_sandbox(roles[k], try_abort);

		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		assert_false(WCOREDUMP(status));
	}
}

static void
test_no_such_role(void **state)
{
	const char *why = NULL;
	uint32_t bits = 0;

	(void)state;
	assert_int_equal(sandbox_enter(ROLE_MASTER, -1, &bits, &why), -1);
	assert_int_equal(sandbox_enter(SANDBOX_POLICY + 1, -1, &bits, &why), -1);
	assert_int_equal(sandbox_enter_paths((const char *const[]){ "/nowhere" }, 1, &bits, &why), -1);
	assert_int_equal(bits, 0);
	assert_string_equal(sandbox_bit_name(3), "seccomp");
	assert_null(sandbox_bit_name(7));
}

/* Messages with descriptors go both ways in a sandbox: that is what roles live by. */
static int channel[2];
static int
try_messages(void)
{
	static uint8_t buf[IPC_MAX_DATA + 16];
	struct ipc_msg m;

	if (ipc_recv(channel[1], buf, &m) != 1 || m.nfds != 1)
		return 1;
	return ipc_send(channel[1], 2, 0, "yes", 3, m.fds, 1) == 0 ? 0 : 2;
}

static void
test_messages(void **state)
{
	static uint8_t buf[IPC_MAX_DATA + 16];
	int fd = memfd_sealed("x", "y", 1);
	struct ipc_msg m;

	(void)state;
	for (size_t k = 0; k < 4; k++) {
		assert_int_equal(ipc_pair(channel), 0);
		assert_int_equal(ipc_send(channel[0], 1, 0, NULL, 0, &fd, 1), 0);
		assert_int_equal(in_sandbox(roles[k], try_messages), 0);
		assert_int_equal(ipc_recv(channel[0], buf, &m), 1);
		assert_int_equal(m.nfds, 1);
		ipc_msg_close(&m);
		close(channel[0]);
		close(channel[1]);
	}
	close(fd);
}

/* Unix sockets and devices only where one is named. */
static const char *named;
static int
with_named(attempt_fn *run)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		uint32_t bits = 0;
		const char *why;

		if (sandbox_enter_paths(&named, named ? 1 : 0, &bits, &why) < 0)
			_exit(200);
		_exit(run());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
try_device(void)
{
	int fd = open("/dev/full", O_RDWR);

	return fd < 0 ? errno : ioctl(fd, 0x5555, NULL) < 0 && errno != ENOTTY ? errno : 0;
}

static void
test_named(void **state)
{
	bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/sock", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	named = NULL;
	assert_int_equal(with_named(try_unix), EACCES);
	if (landlock && !WITH_ASAN)
		assert_int_equal(with_named(try_device), EACCES);
	named = sun.sun_path;
	assert_int_equal(with_named(try_unix), 0);
	assert_int_equal(with_named(try_tcp), EACCES);
	named = "/dev/full";
	assert_int_equal(with_named(try_unix), EACCES);
	assert_int_equal(with_named(try_device), 0);
	close(fd);
	unlink(sun.sun_path);
}

static int
make_dir(void **state)
{
	int fd;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/sallyport-test-XXXXXX");
	if (!mkdtemp(dir) || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	fd = openat(dir_fd, "file", O_WRONLY | O_CREAT, 0755);
	close(fd);
	return 0;
}

static int
remove_dir(void **state)
{
	(void)state;
	unlinkat(dir_fd, "file", 0);
	unlinkat(dir_fd, "new", 0);
	unlinkat(dir_fd, "newer", 0);
	close(dir_fd);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attempts),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_no_such_role),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_named),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
