/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled policy's layout: private to policy/. Little-endian u32 fields, offsets instead of pointers,
 * every section 8-aligned and found through the header. open.c proves every bound once; match.c trusts it.
 *
 *   header      where each section is
 *   strings     text and labels, each NUL-terminated; the section ends with a NUL
 *   lists       [n, string offset × n] …   what a rule says, for "policy list", explaining and unusual methods
 *   rules       one image_rule per rule, in order of source
 *   services    one image_service per service; service_hash finds them by name
 *   sels        selectors: what a rule may name as principal. First the exact ids (a principal's class is its
 *               number), then the patterns, then one for "anybody"; id_hash finds the exact ones
 *   nodes       tries of patterns by segment, breadth first; tries says where each starts (0: principals)
 *   set_start,  sets of principal patterns that one id can match at the same time; set 0 is empty. An id that
 *   set_items   no rule names exactly has the class "number of exact ids + set"; set_hash finds a set
 *   slots       hash table (selector, service) → entry
 *   acls        [first_allow, trie, npaths, start × (npaths + 2), (cond, rule) × tests] …
 *
 * An entry is one test in place (a cond, b rule), or an ACL (a ENTRY_ACL, b its word offset), or nothing (a 0).
 * An ACL groups its tests by path: group 0 takes every path, group 1 + n the n-th pattern of its trie.
 * Within a group deny comes before allow, each in order of source.
 */
#ifndef POLICY_IMAGE_H
#define POLICY_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/policy.h"

#define IMAGE_MAGIC 0x4c4f5053u /* "SPOL" */
#define IMAGE_VERSION 1u
#define IMAGE_MAX (512u << 20)  /* bytes */
#define IMAGE_NONE UINT32_MAX

/* Bits of a condition. */
#define COND_METHODS 0x0000ffffu       /* known methods, method.h */
#define COND_ASSURANCE_SHIFT 16        /* 4 bits, 1 << enum policy_assurance */
#define COND_ASSURANCE 0x000f0000u
#define COND_DENY 0x00100000u
#define COND_ANY_METHOD 0x00200000u
#define COND_OTHER_METHODS 0x00400000u /* the rule's list of methods has some that are not known ones */
#define COND_PATHS 0x00800000u         /* the rule has paths */
#define COND_MASK 0x00ffffffu
#define ENTRY_ACL 0x80000000u

#define SET_MAX 64u                    /* principal patterns that may match one id */
#define METHODS_MAX 64u                /* methods that one rule may list */

enum image_section {
	IMAGE_STRINGS, IMAGE_LISTS, IMAGE_RULES, IMAGE_SERVICES, IMAGE_SERVICE_HASH, IMAGE_SELS, IMAGE_ID_HASH,
	IMAGE_TRIES, IMAGE_NODES, IMAGE_SET_START, IMAGE_SET_ITEMS, IMAGE_SET_HASH, IMAGE_SLOTS, IMAGE_ACLS,
	IMAGE_SECTIONS,
};

struct image_header {
	uint32_t magic, version;
	uint64_t generation;
	uint32_t len;                  /* of the whole image */
	uint32_t digest;               /* string */
	uint32_t nexact, npatterns;    /* selectors, beside "anybody" */
	struct {
		uint32_t off;          /* from the start of the image */
		uint32_t n;            /* elements (bytes for strings, words for lists and acls) */
	} section[IMAGE_SECTIONS];
};

struct image_rule {
	uint32_t name, file, line;     /* strings */
	uint32_t cond;
	uint32_t principals, services; /* lists; services IMAGE_NONE: every */
	uint32_t methods, paths;       /* lists; IMAGE_NONE: any */
};

struct image_service {
	uint32_t name;
	uint32_t tcp;
};

struct image_entry {
	uint32_t a, b;
};

struct image_sel {
	uint32_t text, len;            /* the id or pattern */
	uint32_t set;                  /* exact ids: the set of patterns that match it */
	uint32_t nservices;            /* slots that name this selector */
	struct image_entry any;        /* its rules for every service */
};

struct image_id {
	uint32_t hash;
	uint32_t sel;                  /* IMAGE_NONE: empty */
};

struct image_slot {
	uint32_t sel;                  /* IMAGE_NONE: empty */
	uint32_t service;
	struct image_entry entry;
};

struct image_trie {
	uint32_t first, nnodes;        /* in nodes */
	uint32_t npatterns;            /* accept values are below this */
};

/* Children are consecutive: literals sorted by hash, then prefixes, then at most one star. */
struct image_node {
	uint32_t label, label_len;     /* the literal or the prefix */
	uint32_t hash;                 /* of the literal */
	uint32_t child;                /* first child, counted from the trie's first node */
	uint32_t nliteral, nprefix;
	uint32_t star;                 /* 0 or 1 */
	uint32_t accept;               /* the pattern that ends here, or IMAGE_NONE */
	uint32_t rest;                 /* the one that goes on with "**" here, or IMAGE_NONE */
};

enum { ACL_FIRST_ALLOW, ACL_TRIE, ACL_NPATHS, ACL_STARTS };

/* Not keyed: what is hashed into a table comes from the policy's author, never from a peer. */
static inline uint32_t
image_hash(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t h = 0x9e3779b97f4a7c15u ^ (n * 0xff51afd7ed558ccdu), w;
	uint32_t a, b;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0xbf58476d1ce4e5b9u;
		h ^= h >> 29;
	}
	if (n >= 4) {
		memcpy(&a, p, 4);
		memcpy(&b, p + n - 4, 4);
		h = (h ^ (a | (uint64_t)b << 32)) * 0xbf58476d1ce4e5b9u;
	} else if (n) {
		h = (h ^ (p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16)) * 0xbf58476d1ce4e5b9u;
	}
	h ^= h >> 32;
	h *= 0x94d049bb133111ebu;
	return (uint32_t)(h >> 32);
}

static inline uint32_t
image_slot_hash(uint32_t sel, uint32_t service)
{
	uint64_t h = ((uint64_t)sel << 32 | service) * 0x9e3779b97f4a7c15u;

	h ^= h >> 32;
	h *= 0xbf58476d1ce4e5b9u;
	return (uint32_t)(h >> 32);
}

static inline const struct image_header *
image_header(const struct policy *p)
{
	return (const struct image_header *)(const void *)p->image;
}

static inline const void *
image_section(const struct policy *p, enum image_section s)
{
	return p->image + image_header(p)->section[s].off;
}

static inline uint32_t
image_count(const struct policy *p, enum image_section s)
{
	return image_header(p)->section[s].n;
}

/* policy.priv: section starts that a decision needs. */
enum { PRIV_STRINGS, PRIV_RULES, PRIV_SERVICES, PRIV_SELS, PRIV_SLOTS, PRIV_ACLS, PRIV_NODES, PRIV_TRIES };

#endif
