/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: sallyport.conf and the files of policy.d, read once by master (or gwctl), checked as a
 * whole, and handed to the other roles as one image, since they may not open files.
 *
 * One option table (options.c) drives parsing, defaults, ranges, encoding and "config dump".
 * Every struct here is filled by that table: text is owned by the config, never NULL unless the comment says so.
 */
#ifndef GATEWAY_CONFIG_CONFIG_H
#define GATEWAY_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/addr.h"
#include "gateway/base/buf.h"
#include "gateway/base/errs.h"
#include "policy/policy.h"

enum config_accept { /* bits of config_listener.accept */
	CONFIG_PEERS = 1,      /* TLS: links from gateways of a peer's domain */
	CONFIG_WORKLOADS = 2,  /* TLS: workloads of our own domain, with certificates */
	CONFIG_PLAINTEXT = 4,  /* plain HTTP; who it is comes from "clients" */
	CONFIG_TCP = 8,        /* raw bytes to "service"; who it is comes from "clients" */
	CONFIG_ENROL = 16,     /* TLS with the name enrol.host: EST (RFC 7030), nothing else */
};
enum config_revocation { CONFIG_REV_OFF, CONFIG_REV_IF_PRESENT, CONFIG_REV_REQUIRED };
enum config_kind { CONFIG_HTTP, CONFIG_KIND_TCP };

/* A source address or a local user, mapped to a principal. Exactly one of address and uid is given. */
struct config_client {
	unsigned line;
	char *address;         /* "10.1.0.7/32"; NULL when by uid */
	char *user;            /* user name or number; NULL when by address */
	char *principal;       /* SPIFFE ID of our own domain */
	bool trusted_loopback; /* option "allow_local = true": permits own and loopback addresses */
	/* derived */
	struct addr_cidr cidr;
	uint32_t uid;
};

struct config_listener {
	unsigned line;
	char *name;
	char *address;         /* NULL when path is given */
	char *path;            /* Unix socket */
	unsigned mode;         /* of the Unix socket: "0660"; 0 without a path */
	char *group;           /* owner group of the Unix socket; NULL: unchanged */
	unsigned accept;       /* bits of enum config_accept */
	char *service;         /* for tcp: its service's name; NULL otherwise */
	struct config_client *clients;
	size_t nclients;
	/* derived */
	struct addr addr;      /* len 0 for a path */
	int service_index;     /* -1 */
};

struct config_dial {       /* one target to dial */
	char *text;
	struct addr addr;
};

struct config_peer {
	unsigned line;
	char *name;
	char *domain;
	char *bundle;          /* file name */
	char *crl;             /* file name; NULL: what the peer sends over the link is all there is */
	int revocation;        /* enum config_revocation */
	unsigned assert_mask;  /* bits 1 << POLICY_UID, 1 << POLICY_ADDRESS, 1 << POLICY_NONE that the peer may claim */
	char **gateways;       /* SPIFFE IDs */
	size_t ngateways;
	struct config_dial *dial;  /* to carry our exchanges there; may be empty when the peer dials us */
	size_t ndial;
	struct config_dial *dial_reverse; /* option "dial_reverse": dialled by us to carry the peer's exchanges here (ALPN h2-reverse) */
	size_t ndial_reverse;
	unsigned links;        /* per worker; default 2 */
	/* derived */
	char *bundle_pem;      /* the file's content */
	char *crl_pem;         /* the same; NULL: no file */
	bool severed;          /* by "gwctl sever"; set by master */
	bool removed;          /* by config_take_trust(): no longer among the peers */
	bool uplink;           /* made from the "uplink" section; then at index 0, name "uplink", domain our own */
};

struct config_endpoint {
	char *text;            /* "10.1.0.20:8080", "[::1]:80" or "unix:/run/x.sock" */
	struct addr addr;
};

struct config_service {
	unsigned line;
	char *name;
	char *host;            /* lower-cased, with its port if one was given */
	int kind;              /* enum config_kind */
	char *via;             /* peer's name or "uplink"; NULL when endpoints are given */
	struct config_endpoint *endpoints;
	size_t nendpoints;
	uint64_t connect_ms;   /* default 5 s */
	uint64_t response_ms;  /* first byte of the answer's head; default 60 s */
	uint64_t idle_ms;      /* between bytes; default 300 s for HTTP, 3600 s for TCP ("0": none is refused) */
	unsigned max_connections; /* per worker, to all endpoints; default 1024 */
	/* derived */
	char *hostname;        /* without port; an IPv6 literal keeps its brackets */
	uint16_t port;         /* 0: none given (80 on plaintext, 443 on TLS listeners) */
	int peer_index;        /* -1 for local */
};

struct config_limits {     /* every one with a default and a range */
	unsigned connections;          /* client connections per worker: 50000 */
	unsigned connections_per_source; /* not counting peers: 1000 */
	unsigned handshakes_per_source;  /* per second: 50 */
	unsigned handshakes;           /* in progress per worker: 256 */
	unsigned streams_per_link;     /* concurrent exchanges: 1000 */
	uint64_t stream_window;        /* bytes, HTTP/2: 1 MiB */
	uint64_t link_window;          /* 16 MiB */
	uint64_t handshake_ms;         /* 5 s */
	uint64_t head_ms;              /* 10 s */
	uint64_t keepalive_ms;         /* idle client connection: 300 s */
	uint64_t body_idle_ms;         /* 60 s without a byte of body while more is due */
	uint64_t write_ms;             /* 60 s without progress on output */
	uint64_t park_ms;              /* an exchange without a link waits: 2 s */
	unsigned parked;               /* per worker: 1000 */
	uint64_t ping_ms;              /* link PING interval: 3 s; dead after two more (at most 10 s in all) */
	uint64_t link_age_ms;          /* renewed after: 1 h */
	uint64_t drain_ms;             /* 30 s */
	unsigned resets_per_second;    /* per h2 ingress connection: 100 */
	unsigned signatures_per_second; /* per worker, by the keys role: 2000 */
	uint64_t slots;                /* principals remembered per link: 1024 */
	uint64_t tcp_buffer;           /* bytes buffered per direction and exchange: 256 KiB */
	uint64_t clock_skew_ms;        /* a certificate is good for so long after its end: 0 */
};

struct config_journal {
	char *directory;       /* "/var/lib/sallyport/journal" */
	uint64_t segment_bytes;/* rotate: 256 MiB */
	uint64_t segment_ms;   /* rotate: 24 h */
	uint64_t group_ms;     /* 10 ms */
	uint64_t min_free;     /* bytes of free disk below which exchanges are denied: 64 MiB */
	uint64_t ring_bytes;   /* per worker: 4 MiB, a power of two */
};

struct config_control {
	char *socket;          /* "/run/sallyport/control.sock" */
	unsigned mode;         /* 0660 */
	char *group;           /* NULL */
};

struct config {
	char *file;            /* as given */
	char *domain;
	struct {
		char *certificate, *key, *bundle;     /* file names; the key may be a pkcs11: URI */
		char *crl;                            /* our own CA's; NULL: none */
		int revocation;                       /* of our own workloads */
		char *certificate_pem, *bundle_pem;   /* derived: contents; the key is opened by master, never here */
		char *crl_pem;                        /* NULL: no file */
		char *id;                             /* derived: our SPIFFE ID, from the certificate's URI SAN */
	} identity;
	struct {               /* optional second identity for TLS listeners with accept = workloads: DNS names; NULL: identity's */
		char *certificate, *key;
		char *certificate_pem;
	} inside;
	struct {               /* the enrolment service of listeners with accept = enrol; host NULL: none */
		char *host;            /* its DNS name: SNI and Host */
		char *certificate, *key; /* key number 2; NULL with forward */
		struct config_dial *forward; /* at most one: TLS goes on to there unopened; else the ca role answers */
		size_t nforward;
		char *certificate_pem;
	} enrol;
	struct {               /* the ca role; store NULL: none */
		char *store;           /* directory of gwctl pki */
		char *passphrase_file; /* of an encrypted issuing key; NULL */
		uint64_t workload_ms, gateway_ms; /* life of what it issues and renews */
	} ca;
	struct {               /* we renew our own certificates by EST; host NULL: no */
		char *host;            /* SNI, Host and the name in the server's certificate */
		struct config_dial *dial; /* tried in order */
		size_t ndial;
		unsigned at;           /* per cent of a certificate's life */
		bool new_key;          /* with a new key each time */
	} renewal;
	struct {               /* keys that are pkcs11: URIs; module NULL: none */
		char *module;          /* PKCS#11 library */
		char **paths;          /* what it may use: files, directories, devices, Unix sockets */
		size_t npaths;
		char **environment;    /* NAME=VALUE */
		size_t nenvironment;
	} hsm;
	char *state_dir;       /* what must survive a restart: severed peers, CRLs that came over links; default: "state" beside journal.directory */
	char *policy_dir;      /* "policy.d" beside the file */
	char *peers_dir;       /* each *.conf in it is one more element of "peers"; NULL: none */
	unsigned workers;      /* 0: one per core, resolved by config_load */
	char *log_level;
	char *user_prefix;     /* roles run as <prefix><role> users when root: "sallyport-" */
	char *policy_context;  /* header "Sallyport-Policy-Context" set towards local services; NULL: none */
	struct config_listener *listeners;
	size_t nlisteners;
	struct config_peer *peers;
	size_t npeers;
	struct config_service *services;
	size_t nservices;
	struct config_limits limits;
	struct config_journal journal;
	struct config_control control;
	struct lookup *hosts;  /* private to config_service_by_host */
};

/*
 * Read, default and check "path" (relative file names inside are relative to its directory). Returns the
 * config or NULL; either way *errs has every fault: syntax (the first of a file), unknown options (did you mean), types, ranges,
 * references, missing or unreadable files. Warnings (a mapping wider than /32) do not make it fail.
 */
struct config *config_load(const char *path, struct errs *errs);
void config_free(struct config *c);
/* The same without a look at any file that it names; what comes from those is NULL. NULL: it has faults. */
struct config *config_load_shape(const char *path);
/* The domain of a file that may have faults elsewhere: mem_free(); NULL when it cannot be parsed or has none. */
char *config_peek_domain(const char *path);

/* Rules of the files *.conf in policy_dir, in file-name order, compiled against the services. Returns 0 and the image, or -1. */
int config_policy_compile(const struct config *c, uint64_t generation, struct buf *image, struct errs *errs);

/*
 * The same as config_load(), as if peers_dir had no file called "without" (NULL: all of it): what would a configuration be without that peer?
 */
struct config *config_load_without(const char *path, const char *without, struct errs *errs);
/* The peers that a configuration names, as they are written; whatever else is wrong with it, and without looking at any file of theirs. Texts die with the call. */
struct config_written_peer {
	const char *name, *domain, *bundle; /* NULL: not written, or no text */
	const char *file;              /* where the entry stands */
	unsigned line;
	bool listed;                   /* in a file of peers_dir */
};
typedef void config_written_peer_fn(void *ctx, const struct config_written_peer *p);
/* 0, or -1 with the fault that hinders. */
int config_peek_peers(const char *path, config_written_peer_fn *on_peer, void *ctx, struct errs *errs);
/* The option "peers_dir" with the configuration's directory before it, or NULL: not written, or no configuration. mem_free(). */
char *config_peek_peers_dir(const char *path);

/* The image that other roles get: no pointers; validated on decode (a damaged image gives NULL). */
void config_encode(const struct config *c, struct buf *out);
/* All but the trust material (OPTION_TRUST): equal bytes need no new processes. Not to be decoded. */
void config_encode_frame(const struct config *c, struct buf *out);
struct config *config_decode(const void *image, size_t len, const char **why);
/*
 * Trust material (certificates, bundles, CRLs, the peers' gateways and what they may assert, who is severed) changes hands between the two: "live" has
 * the newer one afterwards, whatever else differs, by the peers' domains. A peer that "from" does not have is marked removed in live.
 */
void config_take_trust(struct config *live, struct config *from);
/*
 * The running config again, with its certificates, bundles and CRLs read anew from their files. NULL with faults (errs); nothing else of the configuration
 * is looked at, so that a file in the middle of being edited hinders no renewal.
 */
struct config *config_reread_trust(const struct config *running, struct errs *errs);
/* Calls fn for each file that config_reread_trust() reads, private keys included, and not those in tokens. */
void config_trust_files(const struct config *c, void (*fn)(void *ctx, const char *path), void *ctx);

/* Every option with its effective value, in libconfig syntax (for "config dump"). */
void config_dump(const struct config *c, struct buf *out);
/* The same as one JSON object: sizes and durations as text, as they are written in the file. */
void config_dump_json(const struct config *c, struct buf *out);

/* The service that host[:port] names (RFC 9110 7.2; a missing port means default_port), or -1. Hashed: costs the same for 10,000 services. */
int config_service_by_host(const struct config *c, const char *authority, size_t len, uint16_t default_port);

#endif
