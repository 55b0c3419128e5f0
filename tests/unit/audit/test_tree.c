/* SPDX-License-Identifier: Apache-2.0 */
/* The Merkle tree against the vectors of RFC 6962's reference implementation, and against the definition itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/merkle.h"
#include "gateway/base/esc.h"

static struct digest *d;

/* The leaves and roots that certificate-transparency's tests use: octets in hex. */
static const char *const inputs[8] = {"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"};
static const char *const roots[8] = {
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

static void check_hex(const uint8_t *h, const char *hex)
{
	char text[65] = {0};

	esc_hex(text, h, 32);
	assert_string_equal(text, hex);
}

static void vector_leaves(uint8_t *leaves)
{
	for (int i = 0; i < 8; i++) {
		uint8_t raw[16];
		size_t n = strlen(inputs[i]);
		assert_int_equal(esc_unhex(raw, inputs[i], n), 0);
		digest_leaf(d, raw, n / 2, leaves + 32 * i);
	}
}

static void known_roots(void **state)
{
	uint8_t leaves[8 * 32], root[32];
	struct merkle m;

	(void)state;
	vector_leaves(leaves);
	merkle_init(&m);
	merkle_root(&m, d, root);
	check_hex(root, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	for (uint64_t n = 1; n <= 8; n++) {
		merkle_append(&m, d, leaves + 32 * (n - 1));
		merkle_root(&m, d, root);
		check_hex(root, roots[n - 1]);
		merkle_root_of(d, leaves, n, root);
		check_hex(root, roots[n - 1]);
	}
}

/* From the same reference tests: path of leaf 5 of 8, and from tree 2 to 5. */
static void known_proofs(void **state)
{
	uint8_t leaves[8 * 32];
	struct merkle_proof p;

	(void)state;
	vector_leaves(leaves);
	assert_int_equal(merkle_inclusion(d, leaves, 8, 5, &p), 0);
	assert_int_equal(p.n, 3);
	check_hex(p.hash[0], "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b");
	check_hex(p.hash[1], "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0");
	check_hex(p.hash[2], "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7");
	assert_int_equal(merkle_consistency(d, leaves, 2, 5, &p), 0);
	assert_int_equal(p.n, 2);
	check_hex(p.hash[0], "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e");
	check_hex(p.hash[1], "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b");
}

static void all_proofs(void **state)
{
	enum { N = 70 };
	uint8_t *leaves = malloc(N * 32), (*root)[32] = malloc((N + 1) * 32);
	struct merkle_proof p, q;
	struct merkle m;

	(void)state;
	merkle_init(&m);
	for (unsigned i = 0; i < N; i++) {
		digest_leaf(d, &i, sizeof(i), leaves + 32 * i);
		merkle_append(&m, d, leaves + 32 * i);
		merkle_root(&m, d, root[i + 1]);
	}
	for (uint64_t n = 1; n <= N; n++) {
		uint8_t naive[32];
		merkle_root_of(d, leaves, n, naive);
		assert_memory_equal(naive, root[n], 32);
		for (uint64_t i = 0; i < n; i++) {
			assert_int_equal(merkle_inclusion(d, leaves, n, i, &p), 0);
			assert_int_equal(merkle_check_inclusion(d, &p, n, i, leaves + 32 * i, root[n]), 0);
			assert_int_equal(merkle_check_inclusion(d, &p, n, i, leaves + 32 * ((i + 1) % N), root[n]), -1);
			assert_int_equal(merkle_check_inclusion(d, &p, n, (i + 1) % n, leaves + 32 * i, root[n]), n == 1 ? 0 : -1);
			if (p.n) {
				q = p;
				q.hash[i % p.n][3] ^= 1;
				assert_int_equal(merkle_check_inclusion(d, &q, n, i, leaves + 32 * i, root[n]), -1);
				q = p;
				q.n--;
				assert_int_equal(merkle_check_inclusion(d, &q, n, i, leaves + 32 * i, root[n]), -1);
			}
			q = p;
			memset(q.hash[q.n++], 1, 32);
			assert_int_equal(merkle_check_inclusion(d, &q, n, i, leaves + 32 * i, root[n]), -1);
		}
		for (uint64_t o = 1; o <= n; o++) {
			assert_int_equal(merkle_consistency(d, leaves, o, n, &p), 0);
			assert_int_equal(merkle_check_consistency(d, &p, o, root[o], n, root[n]), 0);
			if (o == n)
				continue;
			assert_int_equal(merkle_check_consistency(d, &p, o, root[n], n, root[n]), -1); /* another past */
			assert_int_equal(merkle_check_consistency(d, &p, o, root[o], n, root[o]), -1);
			q = p;
			q.hash[o % p.n][31] ^= 128;
			assert_int_equal(merkle_check_consistency(d, &q, o, root[o], n, root[n]), -1);
		}
	}
	assert_int_equal(merkle_inclusion(d, leaves, 5, 5, &p), -1);
	assert_int_equal(merkle_consistency(d, leaves, 0, 5, &p), -1);
	assert_int_equal(merkle_consistency(d, leaves, 6, 5, &p), -1);
	free(leaves);
	free(root);
}

/* Batches of every size from every size give what one leaf after the other gives. */
static void many_at_once(void **state)
{
	enum { N = 80 };
	uint8_t leaves[N * 32], a[32], b[32];

	(void)state;
	for (unsigned i = 0; i < N; i++)
		digest_leaf(d, &i, sizeof(i), leaves + 32 * i);
	for (unsigned first = 0; first <= 33; first++) {
		for (unsigned n = 0; first + n <= N; n++) {
			struct merkle x, y;
			merkle_init(&x);
			merkle_init(&y);
			for (unsigned i = 0; i < first; i++)
				merkle_append(&x, d, leaves + 32 * i);
			y = x;
			for (unsigned i = 0; i < n; i++)
				merkle_append(&x, d, leaves + 32 * (first + i));
			merkle_append_all(&y, d, leaves + 32 * first, n);
			assert_int_equal(x.size, y.size);
			for (unsigned k = 0; k < 8; k++)
				if (x.size >> k & 1)
					assert_memory_equal(x.node[k], y.node[k], 32);
			merkle_root(&x, d, a);
			merkle_root(&y, d, b);
			assert_memory_equal(a, b, 32);
		}
	}
}

static void put_prev(uint8_t *p, size_t n, const uint8_t *prev)
{
	memcpy(p + n - 40, prev, 32);
}

/* The chain of a batch equals hashing one text after the other, at every length modulo the block and every batch size. */
static void chains(void **state)
{
	enum { N = 200 };
	static uint8_t mem[N][1400], copy[1400];
	struct digest_text text[N];
	uint8_t leaves[N * 32], prev[32], want[32];

	(void)state;
	srand(7);
	for (unsigned round = 0; round < 400; round++) {
		size_t n = (size_t)rand() % N + 1;
		memset(prev, (int)round, 32);
		memset(want, (int)round, 32);
		for (size_t i = 0; i < n; i++) {
			text[i].p = mem[i];
			text[i].n = 40 + (round % 4 ? (size_t)rand() % 1300 : (round / 4 + i) % 200);
			for (size_t k = 0; k < text[i].n; k++)
				mem[i][k] = (uint8_t)rand();
		}
		digest_chain(d, text, n, put_prev, 40, prev, leaves);
		for (size_t i = 0; i < n; i++) {
			memcpy(copy, mem[i], text[i].n);
			put_prev(copy, text[i].n, want);
			assert_memory_equal(copy, mem[i], text[i].n);
			digest_leaf(d, copy, text[i].n, want);
			assert_memory_equal(want, leaves + 32 * i, 32);
		}
		assert_memory_equal(want, prev, 32);
	}
}

static int setup(void **state)
{
	(void)state;
	d = digest_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	digest_free(d);
	return 0;
}

/* The same on a CPU with fewer lanes, and on one with none. */
static void narrower(void **state)
{
	static const unsigned widths[] = {8, 0};

	for (unsigned i = 0; i < 2; i++) {
		digest_narrow(d, widths[i]);
		chains(state);
		many_at_once(state);
		known_roots(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_roots),
		cmocka_unit_test(known_proofs),
		cmocka_unit_test(all_proofs),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(chains),
		cmocka_unit_test(narrower),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
