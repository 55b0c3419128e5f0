/* SPDX-License-Identifier: Apache-2.0 */
/* Services: their hosts, and where they live. */
#include <string.h>
#include <sys/un.h>

#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "gateway/config/host.h"
#include "gateway/config/lookup.h"

#define HTTP_IDLE_MS 300000
#define TCP_IDLE_MS 3600000

/* Requests between gateways go there; no exchange may (DESIGN.md, "Wire"). */
static const char control_authority[] = "control.sallyport.invalid";

static void
check_host(struct check *ck, struct config_service *s)
{
	struct host h;
	const char *why;

	if (!s->host)
		return;
	if (host_parse(&h, s->host, &why) != 0) {
		check_fault(ck, &s->host, s, "host \"%s\": %s", s->host, why);
		return;
	}
	if (!strcmp(h.name, control_authority)) {
		check_fault(ck, &s->host, s, "host \"%s\" is reserved for requests between gateways", control_authority);
		return;
	}
	if (s->kind == CONFIG_KIND_TCP && h.port == 0)
		check_fault(ck, &s->host, s, "host \"%s\" of a tcp service needs a port; write host:port", s->host);
	mem_free(s->host);
	s->host = h.port ? mem_printf("%s:%u", h.name, h.port) : mem_strdup(h.name);
	s->hostname = mem_strdup(h.name);
	s->port = h.port;
}

static void
check_via(struct check *ck, struct config_service *s)
{
	const struct config *c = ck->c;
	const char *names[512], *near;
	size_t n = 0;

	for (size_t i = 0; i < c->npeers; i++) {
		if (!c->peers[i].name)
			continue;
		if (!strcmp(c->peers[i].name, s->via)) {
			s->peer_index = (int)i;
			return;
		}
		if (n < 512)
			names[n++] = c->peers[i].name;
	}
	near = errs_nearest(s->via, names, n);
	if (!strcmp(s->via, "uplink"))
		check_fault(ck, &s->via, s, "via = \"uplink\", but there is no \"uplink\" section; add it");
	else if (near)
		check_fault(ck, &s->via, s, "unknown peer \"%s\"; did you mean \"%s\"?", s->via, near);
	else
		check_fault(ck, &s->via, s, "unknown peer \"%s\"; define it under \"peers\"", s->via);
}

static int
parse_unix(struct addr *a, const char *path, const char **why)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)(void *)&a->ss;
	size_t n = strlen(path);

	_Static_assert(sizeof(struct sockaddr_un) <= sizeof(struct sockaddr_storage), "a Unix address fits");
	memset(a, 0, sizeof(*a));
	if (path[0] != '/') {
		*why = "write the absolute path of a Unix socket";
		return -1;
	}
	if (n >= sizeof(sun->sun_path)) {
		*why = "the path of a Unix socket has at most 107 bytes";
		return -1;
	}
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path, n + 1);
	a->len = sizeof(*sun);
	return 0;
}

static bool
is_any(const struct addr *a)
{
	char text[ADDR_TEXT_MAX];

	addr_format_ip(a, text);
	return !strcmp(text, "0.0.0.0") || !strcmp(text, "::");
}

static void
check_endpoint(struct check *ck, struct config_endpoint *e)
{
	const struct config_listener *own;
	const char *why;
	int rc;

	if (!e->text)
		return;
	rc = !strncmp(e->text, "unix:", 5) ? parse_unix(&e->addr, e->text + 5, &why) : addr_parse(&e->addr, e->text, &why);
	if (rc != 0) {
		memset(&e->addr, 0, sizeof(e->addr));
		check_fault(ck, &e->text, NULL, "endpoint \"%s\": %s", e->text, why);
		return;
	}
	if (is_any(&e->addr))
		check_fault(ck, &e->text, NULL, "endpoint \"%s\": write the address of one host", e->text);
	own = check_own_listener(ck, &e->addr);
	if (own)
		check_warn(ck, &e->text, NULL, "endpoint \"%s\" is our own listener \"%s\"; its exchanges would come back", e->text,
		    own->name ? own->name : "?");
}

static void
check_place(struct check *ck, struct config_service *s)
{
	s->peer_index = -1;
	if (!s->via == (s->nendpoints == 0)) {
		if (s->via)
			check_fault(ck, s, NULL, "a service is either behind a peer (\"via\") or here (\"endpoints\"); remove one");
		else if (!check_written(ck, &s->via) && !check_written(ck, &s->endpoints))
			check_fault(ck, s, NULL, "a service needs \"via\" (a peer) or \"endpoints\" (addresses here)");
	}
	if (s->via)
		check_via(ck, s);
	for (size_t i = 0; i < s->nendpoints; i++)
		check_endpoint(ck, &s->endpoints[i]);
	check_once(ck, s->endpoints, s->nendpoints, sizeof(*s->endpoints), "endpoints");
}

/* Two services that one request could mean. */
static void
check_unique(struct check *ck)
{
	struct config *c = ck->c;
	struct lookup *l = lookup_new(c);

	for (size_t i = 0; i < c->nservices; i++) {
		const struct config_service *s = &c->services[i], *other;
		size_t len = s->hostname ? strlen(s->hostname) : 0;
		int first;

		if (!s->hostname)
			continue;
		first = lookup_find(l, c, s->hostname, len, s->port);
		if (first >= 0 && (size_t)first != i) {
			other = &c->services[first];
			check_fault(ck, &s->host, s, "host \"%s\" is already that of service \"%s\" in line %u", s->host,
			    other->name ? other->name : "?", other->line);
			continue;
		}
		/* A missing port means 80 or 443, by listener. */
		first = s->port == 80 || s->port == 443 ? lookup_find(l, c, s->hostname, len, 0) : -1;
		if (first >= 0) {
			other = &c->services[first];
			check_fault(ck, &s->host, s,
			    "host \"%s\" is also meant by \"%s\" of service \"%s\" in line %u, which covers ports 80 and 443", s->host,
			    other->host, other->name ? other->name : "?", other->line);
		}
	}
	lookup_free(l);
}

void
check_services(struct check *ck)
{
	struct config *c = ck->c;
	struct check_name *names = mem_array(c->nservices, sizeof(*names));

	for (size_t i = 0; i < c->nservices; i++) {
		struct config_service *s = &c->services[i];

		names[i].member = &s->name;
		names[i].owner = s;
		check_host(ck, s);
		check_place(ck, s);
		/* Databases keep connections open for long; HTTP clients open new ones. */
		if (s->idle_ms == 0)
			s->idle_ms = s->kind == CONFIG_KIND_TCP ? TCP_IDLE_MS : HTTP_IDLE_MS;
	}
	check_names(ck, names, c->nservices, "service");
	check_unique(ck);
	mem_free(names);
}
