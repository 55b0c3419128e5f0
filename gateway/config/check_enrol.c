/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that are not made by hand: the enrolment service, the ca role, and how we renew our own. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "gateway/config/host.h"
#include "pki/svid.h"

/* A DNS name as it stands in a certificate: lower-case, no port. Lower-cases it. */
static bool
check_host(struct check *ck, char **host, const void *owner, const char *section)
{
	size_t n = strlen(*host);

	for (char *p = *host; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	if (n > 253 || strspn(*host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != n || !strchr(*host, '.') || (*host)[0] == '.' || (*host)[0] == '-' ||
	    strstr(*host, "..") || (*host)[n - 1] == '.') {
		check_fault(ck, host, owner, "%s.host \"%s\": write a DNS name, such as \"enrol.%s\"", section, *host,
		    ck->c->domain ? ck->c->domain : "example");
		return false;
	}
	return true;
}

static void
check_addresses(struct check *ck, struct config_dial *d, size_t n, const char *option)
{
	const char *why;

	for (size_t i = 0; i < n; i++) {
		if (!d[i].text || addr_parse(&d[i].addr, d[i].text, &why) == 0)
			continue;
		memset(&d[i].addr, 0, sizeof(d[i].addr));
		check_fault(ck, &d[i].text, NULL, "%s address \"%s\": %s", option, d[i].text, why);
	}
	check_once(ck, d, n, sizeof(*d), option);
}

static bool
has_name(const char *names, const char *host)
{
	size_t n = strlen(host);

	for (const char *p = names; *p;) {
		size_t len = strcspn(p, " ");

		if (len == n && !memcmp(p, host, n))
			return true;
		p += len + (p[len] == ' ');
	}
	return false;
}

static void
check_service(struct check *ck)
{
	struct config *c = ck->c;
	const void *owner = &c->enrol;
	char names[4096] = "";
	bool listens = false;

	for (size_t i = 0; i < c->nlisteners; i++) {
		if (!(c->listeners[i].accept & CONFIG_ENROL))
			continue;
		listens = true;
		if (!c->enrol.host)
			check_fault(ck, &c->listeners[i].accept, &c->listeners[i],
			    "a listener with accept = [ \"enrol\" ] needs the section  enrol = { host = \"enrol.%s\"; … }", c->domain ? c->domain : "example");
	}
	if (!c->enrol.host) {
		if (c->enrol.certificate || c->enrol.key || c->enrol.nforward)
			check_fault(ck, owner, NULL, "\"enrol\" has no \"host\"; add the DNS name that clients ask for");
		return;
	}
	if (check_host(ck, &c->enrol.host, owner, "enrol") && !listens)
		check_warn(ck, &c->enrol.host, owner, "no listener accepts \"enrol\"; nobody can reach \"%s\"", c->enrol.host);
	check_addresses(ck, c->enrol.forward, c->enrol.nforward, "forward");
	if (c->enrol.nforward) {
		if (c->enrol.certificate || c->enrol.key)
			check_fault(ck, c->enrol.certificate ? &c->enrol.certificate : &c->enrol.key, owner,
			    "with \"forward\" the connection goes on unopened: remove \"certificate\" and \"key\"");
		return;
	}
	if (!c->enrol.certificate || !c->enrol.key) {
		check_fault(ck, owner, NULL, "\"enrol\" needs \"certificate\" and \"key\", or \"forward\" to the host where the CA is");
		return;
	}
	if (!c->ca.store)
		check_fault(ck, owner, NULL, "\"enrol\" needs the section  ca = { store = \"…\"; }  or \"forward\" to the host where the CA is");
	if (!strcmp(c->enrol.key, c->identity.key) || (c->inside.key && !strcmp(c->enrol.key, c->inside.key)))
		check_fault(ck, &c->enrol.key, owner, "enrolment needs a key of its own; \"%s\" is used for something else", c->enrol.key);
	c->enrol.certificate_pem = check_pem(ck, &c->enrol.certificate, owner);
	check_key(ck, &c->enrol.key, owner, c->enrol.certificate, c->enrol.certificate_pem);
	if (!c->enrol.certificate_pem)
		return;
	if (svid_dns_names_of_pem(c->enrol.certificate_pem, names, sizeof(names)) < 0)
		check_fault(ck, &c->enrol.certificate, owner, "\"%s\" holds no usable certificate", c->enrol.certificate);
	else if (!has_name(names, c->enrol.host))
		check_fault(ck, &c->enrol.certificate, owner, "\"%s\" is not for the DNS name \"%s\"", c->enrol.certificate, c->enrol.host);
}

static void
check_ca(struct check *ck)
{
	struct config *c = ck->c;
	struct stat st;
	char *ca;

	if (!c->ca.store) {
		if (c->ca.passphrase_file)
			check_fault(ck, &c->ca.passphrase_file, &c->ca, "\"ca\" has no \"store\"; add the directory that \"gwctl pki init\" made");
		return;
	}
	if (!ck->files)
		return;
	ca = mem_printf("%s/ca", c->ca.store);
	if (stat(ca, &st) != 0)
		check_fault(ck, &c->ca.store, &c->ca, "\"%s\" holds no CA (%s); make it with  gwctl pki init", c->ca.store, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		check_fault(ck, &c->ca.store, &c->ca, "\"%s\" is no directory", ca);
	mem_free(ca);
}

static bool
is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return a && b && (!strcmp(a, b) || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino));
}

/* A renewal replaces a certificate and its key: the key must not be another certificate's, too. (Enrolment never shares one.) */
static void
check_shared_key(struct check *ck)
{
	struct config *c = ck->c;

	if (is_same_file(c->inside.key, c->identity.key) && strncmp(c->inside.key, "pkcs11:", 7) &&
	    !is_same_file(c->inside.certificate, c->identity.certificate))
		check_fault(ck, &c->inside.key, &c->inside, "inside.key is identity.key, too: the renewal of one certificate would take the other's key away; give "
		    "each a key of its own, or set  new_key = false;  in \"renewal\"");
}

static void
check_renewal(struct check *ck)
{
	struct config *c = ck->c;
	const void *owner = &c->renewal;

	if (!c->renewal.host) {
		if (c->renewal.ndial)
			check_fault(ck, owner, NULL, "\"renewal\" has no \"host\"; add the DNS name of the enrolment service");
		return;
	}
	check_host(ck, &c->renewal.host, owner, "renewal");
	if (!c->renewal.ndial)
		check_fault(ck, owner, NULL, "\"renewal\" has no \"dial\"; add the addresses of the enrolment service");
	check_addresses(ck, c->renewal.dial, c->renewal.ndial, "renewal.dial");
	if (c->renewal.new_key && ck->files)
		check_shared_key(ck);
}

void
check_enrol(struct check *ck)
{
	check_service(ck);
	check_ca(ck);
	check_renewal(ck);
}
