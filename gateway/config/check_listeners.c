/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners and the mapping of their clients to principals. */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/config/check.h"

#define TLS_ACCEPTS (CONFIG_PEERS | CONFIG_WORKLOADS | CONFIG_ENROL)

/* ---- clients ---- */

/* False when it names nobody. */
static bool
find_user(struct check *ck, struct config_client *cl)
{
	const struct passwd *pw;
	unsigned long long v;

	if (strspn(cl->user, "0123456789") == strlen(cl->user)) {
		v = strlen(cl->user) > 10 ? UINT64_MAX : strtoull(cl->user, NULL, 10);
		if (v >= UINT32_MAX) { /* -1 is "no user" to the kernel */
			check_fault(ck, &cl->user, cl, "\"%s\" is no user id; write a number below %u", cl->user, UINT32_MAX);
			return false;
		}
		cl->uid = (uint32_t)v;
		return true;
	}
	if (!ck->files)
		return true;
	pw = getpwnam(cl->user);
	if (!pw) {
		check_fault(ck, &cl->user, cl, "there is no user \"%s\" on this host; create it or write its number", cl->user);
		return false;
	}
	cl->uid = (uint32_t)pw->pw_uid;
	return true;
}

static void
check_user(struct check *ck, const struct config_listener *l, struct config_client *cl)
{
	if (l->address && l->addr.len && !addr_is_loopback(&l->addr))
		check_fault(ck, &cl->user, cl,
		    "\"uid\" works on Unix sockets and loopback addresses; \"%s\" is neither, so use \"address\"", l->address);
	if (!find_user(ck, cl)) {
		mem_free(cl->user); /* so that nothing is compared with it */
		cl->user = NULL;
	}
}

/* Whatever runs on this machine, a proxy for others included, would be that principal. */
static void
check_local(struct check *ck, const struct config_client *cl)
{
	static const struct addr_cidr loopback4 = { .family = 2, .bits = 8, .ip = { 127 } };
	static const struct addr_cidr loopback6 = { .family = 10, .bits = 128, .ip = { [15] = 1 } };
	const char *what = NULL;

	_Static_assert(AF_INET == 2 && AF_INET6 == 10, "address families of Linux");
	if (addr_cidr_overlap(&cl->cidr, &loopback4) || addr_cidr_overlap(&cl->cidr, &loopback6))
		what = "a loopback address";
	for (size_t i = 0; !what && i < ck->nown; i++)
		if (addr_cidr_overlap(&cl->cidr, &ck->own[i]))
			what = "an address of this gateway";
	if (what && !cl->trusted_loopback)
		check_fault(ck, &cl->address, cl,
		    "\"%s\" covers %s, so any local process would be \"%s\"; map users by \"uid\", or say allow_local = true",
		    cl->address, what, cl->principal ? cl->principal : "that principal");
}

static void
check_address(struct check *ck, const struct config_listener *l, struct config_client *cl)
{
	unsigned width;
	const char *why;

	if (l->path)
		check_fault(ck, &cl->address, cl, "who connects to a Unix socket has no address; use \"uid\"");
	if (addr_parse_cidr(&cl->cidr, cl->address, &why) != 0) {
		check_fault(ck, &cl->address, cl, "address \"%s\": %s", cl->address, why);
		mem_free(cl->address); /* so that nothing is compared with it */
		cl->address = NULL;
		return;
	}
	width = cl->cidr.family == AF_INET ? 32 : 128;
	if (cl->cidr.bits < width)
		check_warn(ck, &cl->address, cl, "\"%s\" maps every host of a network to one principal; a /%u names one host",
		    cl->address, width);
	check_local(ck, cl);
}

static void
check_client(struct check *ck, const struct config_listener *l, struct config_client *cl)
{
	const struct config *c = ck->c;
	struct spiffe_id id;

	if (cl->principal && check_id(ck, &cl->principal, c->domain, "our", &id)) {
		if (id.path_len == 0)
			check_fault(ck, &cl->principal, cl, "\"%s\" names the whole domain; a principal has a path", cl->principal);
		else if (spiffe_is_gateway(&id))
			check_fault(ck, &cl->principal, cl, "\"%s\" is a gateway's id, which only a certificate can prove",
			    cl->principal);
		else if (ck->sidecar && c->identity.id && strcmp(c->identity.id, cl->principal) != 0)
			check_fault(ck, &cl->principal, cl, "\"%s\": our certificate stands for whoever calls through this sidecar; write \"%s\"",
			    cl->principal, c->identity.id);
	}
	if (!cl->address == !cl->user) {
		/* A value of the wrong type is reported already. */
		if (cl->address || (!check_written(ck, &cl->address) && !check_written(ck, &cl->user)))
			check_fault(ck, cl, NULL, "a client has %s; give exactly one",
			    cl->address ? "both \"address\" and \"uid\"" : "neither \"address\" nor \"uid\"");
		return;
	}
	if (cl->user)
		check_user(ck, l, cl);
	else
		check_address(ck, l, cl);
}

static bool
overlap(const struct config_client *a, const struct config_client *b)
{
	if (a->user && b->user)
		return a->uid == b->uid;
	return a->address && b->address && addr_cidr_overlap(&a->cidr, &b->cidr);
}

static void
check_clients(struct check *ck, struct config_listener *l)
{
	if (l->nclients > 0 && !(l->accept & ~(unsigned)TLS_ACCEPTS) && l->accept) {
		check_fault(ck, &l->clients, l, "\"clients\" map callers of plaintext and tcp listeners; on TLS their certificates say who they are");
		return;
	}
	for (size_t i = 0; i < l->nclients; i++)
		check_client(ck, l, &l->clients[i]);
	for (size_t i = 1; i < l->nclients; i++) {
		const struct config_client *a = &l->clients[i];

		for (size_t j = 0; a->principal && (ck->files || !a->user) && j < i; j++) {
			const struct config_client *b = &l->clients[j];

			if (!b->principal || !overlap(a, b) || !strcmp(a->principal, b->principal))
				continue;
			check_fault(ck, a->user ? &a->user : &a->address, a,
			    "\"%s\" overlaps \"%s\" of line %u, which is another principal; a caller can be only one",
			    a->user ? a->user : a->address, b->user ? b->user : b->address, b->line);
			break;
		}
	}
}

/* ---- listeners ---- */

static void
check_place(struct check *ck, struct config_listener *l)
{
	const char *why;

	if (!l->address == !l->path) {
		if (l->address || (!check_written(ck, &l->address) && !check_written(ck, &l->path)))
			check_fault(ck, l, NULL, "a listener has %s; give exactly one",
			    l->address ? "both \"address\" and \"path\"" : "neither \"address\" nor \"path\"");
		return;
	}
	if (l->path && strlen(l->path) > 107)
		check_fault(ck, &l->path, l, "the path of a Unix socket has at most 107 bytes");
	if (l->address && addr_parse(&l->addr, l->address, &why) != 0) {
		memset(&l->addr, 0, sizeof(l->addr));
		check_fault(ck, &l->address, l, "address \"%s\": %s", l->address, why);
	}
	if (ck->sidecar && l->addr.len && !(l->accept & TLS_ACCEPTS) && !addr_is_loopback(&l->addr))
		check_warn(ck, &l->address, l, "\"%s\" is no loopback address; whoever can connect calls as the workload, with assurance \"address\"",
		    l->address);
	if (l->address && (check_written(ck, &l->mode) || check_written(ck, &l->group)))
		check_fault(ck, check_written(ck, &l->mode) ? (void *)&l->mode : &l->group, l,
		    "\"mode\" and \"group\" are for Unix sockets (\"path\")");
	if (l->path && !l->mode)
		l->mode = 0660;
	if (l->group && ck->files && !getgrnam(l->group))
		check_fault(ck, &l->group, l, "there is no group \"%s\" on this host", l->group);
}

static void
check_accept(struct check *ck, struct config_listener *l)
{
	const void *at = &l->accept;

	if (!l->accept)
		return;
	if (l->accept & TLS_ACCEPTS && l->accept & ~(unsigned)TLS_ACCEPTS)
		check_fault(ck, at, l, "a listener speaks either TLS (\"peers\", \"workloads\") or \"plaintext\" or \"tcp\"; make two of it");
	else if (l->accept == (CONFIG_PLAINTEXT | CONFIG_TCP))
		check_fault(ck, at, l, "a listener takes either \"plaintext\" (HTTP) or \"tcp\" (raw bytes); make two of it");
	else if (ck->sidecar && l->accept & TLS_ACCEPTS)
		check_fault(ck, at, l, "a sidecar serves its own workload: it accepts \"plaintext\" or \"tcp\"");
	else if (l->path && l->accept & TLS_ACCEPTS)
		check_fault(ck, at, l, "a Unix socket takes \"plaintext\" or \"tcp\"; TLS needs \"address\"");
}

static void
check_tcp_service(struct check *ck, struct config_listener *l)
{
	const struct config *c = ck->c;
	const char **names, *near;

	l->service_index = -1;
	if (!(l->accept & CONFIG_TCP)) {
		if (l->service && l->accept)
			check_fault(ck, &l->service, l, "\"service\" is for listeners with accept = [ \"tcp\" ]; HTTP is routed by host");
		return;
	}
	if (!l->service) {
		if (!check_written(ck, &l->service))
			check_fault(ck, l, NULL, "a tcp listener carries one service; add  service = \"NAME\";");
		return;
	}
	for (size_t i = 0; i < c->nservices && l->service_index < 0; i++)
		if (c->services[i].name && !strcmp(c->services[i].name, l->service))
			l->service_index = (int)i;
	if (l->service_index >= 0) {
		if (c->services[l->service_index].kind != CONFIG_KIND_TCP)
			check_fault(ck, &l->service, l, "service \"%s\" is HTTP; a tcp listener needs one with kind = \"tcp\"",
			    l->service);
		return;
	}
	names = mem_array(c->nservices + 1, sizeof(*names));
	for (size_t i = 0; i < c->nservices; i++)
		names[i] = c->services[i].name ? c->services[i].name : "";
	near = errs_nearest(l->service, names, c->nservices);
	if (near)
		check_fault(ck, &l->service, l, "unknown service \"%s\"; did you mean \"%s\"?", l->service, near);
	else
		check_fault(ck, &l->service, l, "unknown service \"%s\"; define it under \"services\"", l->service);
	mem_free(names);
}

static void
check_bound_once(struct check *ck, const struct config_listener *l, const struct config_listener *before)
{
	bool same = l->path && before->path ? !strcmp(l->path, before->path)
					    : l->addr.len && before->addr.len && addr_equal(&l->addr, &before->addr);

	if (same)
		check_fault(ck, l->path ? &l->path : &l->address, l, "listener \"%s\" in line %u is already bound to \"%s\"",
		    before->name ? before->name : "?", before->line, l->path ? l->path : l->address);
}

void
check_listeners(struct check *ck)
{
	struct config *c = ck->c;
	struct check_name *names = mem_array(c->nlisteners, sizeof(*names));

	for (size_t i = 0; i < c->nlisteners; i++) {
		struct config_listener *l = &c->listeners[i];

		names[i].member = &l->name;
		names[i].owner = l;
		check_place(ck, l);
		check_accept(ck, l);
		check_tcp_service(ck, l);
		check_clients(ck, l);
		for (size_t j = 0; j < i; j++)
			check_bound_once(ck, l, &c->listeners[j]);
		if (l->path && c->control.socket && !strcmp(l->path, c->control.socket))
			check_fault(ck, &l->path, l, "\"%s\" is the control socket", l->path);
	}
	check_names(ck, names, c->nlisteners, "listener");
	mem_free(names);
}
