/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapping is one header page and then a power of two of record bytes. The header has three cache
 * lines that differ in who writes them: the writer's head, the reader's tail, and the journal's state.
 *
 *   head, tail   octets since the ring was made; position & mask is the offset. Everything is a multiple of 8.
 *   a record     lies contiguous; its first word is its length. Where the next one would cross the end, a
 *                skip marker (length to the end, type 0) fills the rest, 8 octets at least.
 *
 * Both sides keep their own copy of their own index, so that the other side scribbling over it changes nothing
 * but what it sees itself. The geometry comes from the size of the descriptor, never from the page.
 */
#include "gateway/audit/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/base/mem.h"

#define RING_MAGIC UINT64_C(0x31676e6972796c73) /* "slyring1" */
#define RING_PAGE 4096u
#define RING_MIN (64u << 10)
#define RING_MAX (1u << 30)
#define SILENT_MS 2000u
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct shared {
	_Atomic uint64_t magic;
	_Atomic uint64_t bytes;      /* geometry, for people and for checking only */
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
	_Alignas(64) _Atomic uint64_t heartbeat_ms;
	_Atomic uint32_t stop;       /* enum ring_stop */
	_Alignas(64) _Atomic uint32_t idle;
};

struct ring {
	struct shared *sh;
	uint8_t *data;
	uint64_t bytes, mask;
	size_t map_len;
	int wake_fd;
	/* writer */
	uint64_t head;               /* ours; the page has a copy */
	uint64_t tail;               /* the reader's, as last seen */
	uint64_t skip;               /* octets that the open reservation passes over */
	/* reader */
	uint64_t read;               /* read so far */
	uint64_t released;           /* given back so far */
	uint64_t seen;               /* head as last checked */
	bool broken;
};

int ring_create(size_t bytes)
{
	if (bytes < RING_MIN || bytes > RING_MAX || bytes & (bytes - 1)) {
		errno = EINVAL;
		return -1;
	}

	int fd = memfd_create("sallyport-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -1;
	void *p = MAP_FAILED;
	if (ftruncate(fd, (off_t)(RING_PAGE + bytes)) == 0)
		p = mmap(NULL, RING_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
		int err = errno;
		if (p != MAP_FAILED)
			munmap(p, RING_PAGE);
		close(fd);
		errno = err;
		return -1;
	}
	struct shared *sh = p;
	sh->magic = RING_MAGIC;
	sh->bytes = bytes;
	munmap(p, RING_PAGE);
	return fd;
}

static struct ring *map(int fd, const char **why)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || fstat(fd, &st) != 0) {
		*why = "not a ring's descriptor";
		return NULL;
	}
	/* Without these the other side could take the memory away under us: SIGBUS. */
	if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
		*why = "the ring is not sealed against shrinking and growing";
		return NULL;
	}
	uint64_t bytes = st.st_size < (off_t)(RING_PAGE + RING_MIN) ? 0 : (uint64_t)st.st_size - RING_PAGE;
	if (bytes == 0 || bytes > RING_MAX || bytes & (bytes - 1)) {
		*why = "the ring's size is no power of two";
		return NULL;
	}
	void *p = mmap(NULL, RING_PAGE + bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED) {
		*why = "the ring cannot be mapped";
		return NULL;
	}
	struct ring *r = mem_zalloc(sizeof(*r));
	r->sh = p;
	r->data = (uint8_t *)p + RING_PAGE;
	r->bytes = bytes;
	r->mask = bytes - 1;
	r->map_len = RING_PAGE + bytes;
	r->wake_fd = -1;
	return r;
}

static bool geometry_ok(const struct ring *r)
{
	return atomic_load_explicit(&r->sh->magic, memory_order_relaxed) == RING_MAGIC &&
	    atomic_load_explicit(&r->sh->bytes, memory_order_relaxed) == r->bytes;
}

/* head and tail as found in the page make sense together */
static bool indices_ok(const struct ring *r, uint64_t head, uint64_t tail)
{
	return ((head | tail) & 7) == 0 && head >= tail && head - tail <= r->bytes;
}

struct ring *ring_map_writer(int fd, int wake_fd, const char **why)
{
	struct ring *r = map(fd, why);

	if (!r)
		return NULL;
	r->wake_fd = wake_fd;
	r->head = atomic_load_explicit(&r->sh->head, memory_order_acquire);
	r->tail = atomic_load_explicit(&r->sh->tail, memory_order_acquire);
	if (!geometry_ok(r) || !indices_ok(r, r->head, r->tail)) {
		*why = "the ring's header is damaged";
		ring_unmap(r);
		return NULL;
	}
	return r;
}

struct ring *ring_map_reader(int fd, const char **why)
{
	struct ring *r = map(fd, why);

	if (!r)
		return NULL;
	uint64_t head = atomic_load_explicit(&r->sh->head, memory_order_acquire);
	r->read = r->released = r->seen = atomic_load_explicit(&r->sh->tail, memory_order_acquire);
	if (!geometry_ok(r) || !indices_ok(r, head, r->read)) {
		*why = "the ring's header is damaged";
		ring_unmap(r);
		return NULL;
	}
	return r;
}

void ring_unmap(struct ring *r)
{
	if (!r)
		return;
	munmap(r->sh, r->map_len);
	mem_free(r);
}

/* ---- writer ---------------------------------------------------------------------------------- */

static void *reserve(struct ring *r, size_t max, uint64_t keep)
{
	uint64_t need = (max + 7) & ~UINT64_C(7), off = r->head & r->mask, skip = 0;

	if (need == 0 || need > AUDIT_EVENT_MAX)
		return NULL;
	if (off + need > r->bytes)
		skip = r->bytes - off;
	if (r->head - r->tail + skip + need + keep > r->bytes) {
		r->tail = atomic_load_explicit(&r->sh->tail, memory_order_acquire);
		if (!indices_ok(r, r->head, r->tail) || r->head - r->tail + skip + need + keep > r->bytes)
			return NULL;
	}
	if (skip) {
		uint32_t len = (uint32_t)skip;
		memset(r->data + off, 0, 8);
		memcpy(r->data + off, &len, sizeof(len));
		off = 0;
	}
	r->skip = skip;
	return r->data + off;
}

static const char *refusal(const struct ring *r, uint64_t now_ms)
{
	uint64_t beat = atomic_load_explicit(&r->sh->heartbeat_ms, memory_order_relaxed);

	switch (atomic_load_explicit(&r->sh->stop, memory_order_relaxed)) {
	case RING_RUNNING:
		break;
	case RING_STOPPED_SPACE:
		return "no-space";
	default:
		return "journal-stopped";
	}
	/* The loop's clock may be a little older than the heartbeat. */
	return now_ms > beat && now_ms - beat > SILENT_MS ? "journal-silent" : NULL;
}

void *ring_reserve(struct ring *r, size_t max, uint64_t now_ms)
{
	if (refusal(r, now_ms))
		return NULL;
	return reserve(r, max, r->bytes / 4);
}

void *ring_reserve_end(struct ring *r, size_t max, uint64_t now_ms)
{
	(void)now_ms;
	return reserve(r, max, 0);
}

void ring_commit(struct ring *r, size_t len)
{
	r->head += r->skip + len;
	r->skip = 0;
	atomic_store_explicit(&r->sh->head, r->head, memory_order_release);
	/* Dekker: our store of head must be visible before we look at idle (the reader stores idle, then looks at head). */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&r->sh->idle, memory_order_relaxed) &&
	    atomic_exchange_explicit(&r->sh->idle, 0, memory_order_relaxed) && r->wake_fd >= 0) {
		uint64_t one = 1;
		ssize_t n = write(r->wake_fd, &one, sizeof(one));
		(void)n; /* EAGAIN: it is awake already */
	}
}

const char *ring_refusal(struct ring *r, uint64_t now_ms)
{
	const char *why = refusal(r, now_ms);

	if (why)
		return why;
	r->tail = atomic_load_explicit(&r->sh->tail, memory_order_acquire);
	if (!indices_ok(r, r->head, r->tail) ||
	    r->head - r->tail + 2 * (uint64_t)AUDIT_EVENT_MAX + r->bytes / 4 > r->bytes)
		return "ring-full";
	return NULL;
}

/* ---- reader ---------------------------------------------------------------------------------- */

static long broken(struct ring *r, const char **why, const char *text)
{
	r->broken = true;
	*why = text;
	return -1;
}

/* Takes the shared head, once per call, if it is possible. */
static int look(struct ring *r, const char **why)
{
	uint64_t head = atomic_load_explicit(&r->sh->head, memory_order_acquire);

	if (!geometry_ok(r))
		return (int)broken(r, why, "its geometry was changed");
	if (!indices_ok(r, head, r->released))
		return (int)broken(r, why, "impossible head");
	if (head < r->seen)
		return (int)broken(r, why, "head went back");
	r->seen = head;
	return 0;
}

long ring_read(struct ring *r, uint8_t *out, uint64_t *pos, const char **why)
{
	if (r->broken)
		return broken(r, why, "broken before");
	for (int turn = 0; turn < 2; turn++) {
		if (r->read == r->seen && look(r, why) != 0)
			return -1;
		uint64_t off = r->read & r->mask, room = r->bytes - off, left = r->seen - r->read;
		if (left == 0)
			return 0;
		/* One read of the length; the copy's own length word is overwritten with what was checked. */
		uint64_t word = atomic_load_explicit((_Atomic uint64_t *)(void *)(r->data + off), memory_order_relaxed);
		uint32_t len = (uint32_t)word;
		uint16_t type = (uint16_t)(word >> 32);

		if (len < 8 || len & 7 || len > left || len > room)
			return broken(r, why, "bad length of an event");
		if (type == 0) {
			if (len != room || turn == 1)
				return broken(r, why, "bad skip marker");
			r->read += len;
			continue;
		}
		if (len < sizeof(struct audit_head) || len > AUDIT_EVENT_MAX)
			return broken(r, why, "bad length of an event");
		memcpy(out, r->data + off, len);
		memcpy(out, &len, sizeof(len));
		*pos = r->read;
		r->read += len;
		return (long)len;
	}
	return 0;
}

void ring_release(struct ring *r)
{
	if (r->released == r->read)
		return;
	r->released = r->read;
	atomic_store_explicit(&r->sh->tail, r->released, memory_order_release);
}

bool ring_pending(const struct ring *r)
{
	return !r->broken && atomic_load_explicit(&r->sh->head, memory_order_acquire) != r->read;
}

void ring_heartbeat(struct ring *r, uint64_t now_ms)
{
	atomic_store_explicit(&r->sh->heartbeat_ms, now_ms, memory_order_relaxed);
}

void ring_set_stopped(struct ring *r, enum ring_stop stop)
{
	atomic_store_explicit(&r->sh->stop, (uint32_t)stop, memory_order_relaxed);
}

void ring_set_idle(struct ring *r, bool idle)
{
	atomic_store_explicit(&r->sh->idle, idle, memory_order_relaxed);
	if (idle)
		atomic_thread_fence(memory_order_seq_cst);
}

uint64_t ring_written(const struct ring *r)
{
	return atomic_load_explicit(&r->sh->head, memory_order_acquire);
}

uint64_t ring_position(const struct ring *r)
{
	return r->read;
}

size_t ring_bytes(const struct ring *r)
{
	return r->bytes;
}
