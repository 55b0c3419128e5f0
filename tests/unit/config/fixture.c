/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/config/fixture.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <grp.h>
#include <ifaddrs.h>
#include <openssl/pem.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "tests/unit/pki/zoo.h"

const char fixture_issue_conf[] =
    "domain   = \"hud.example\";\n"
    "identity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };\n"
    "listeners = (\n"
    "  { name = \"tunnel\"; address = \"192.0.2.10:443\";  accept = [ \"peers\", \"workloads\" ]; },\n"
    "  { name = \"inside\"; address = \"10.1.0.10:443\";   accept = [ \"workloads\" ]; },            # mTLS, routed by SNI\n"
    "  { name = \"legacy\"; address = \"10.1.0.10:80\";    accept = [ \"plaintext\" ];\n"
    "    clients = ( { address = \"10.1.0.7/32\"; principal = \"spiffe://hud.example/cobol\"; } ); },\n"
    "  { name = \"apps\";   path = \"/run/sallyport/apps.sock\"; accept = [ \"plaintext\" ];\n"
    "    clients = ( { uid = \"permit\"; principal = \"spiffe://hud.example/permit-svc\"; } ); },\n"
    "  { name = \"ledger\"; address = \"10.1.0.10:5432\";  accept = [ \"tcp\" ]; service = \"ledger-db\"; clients = (\n"
    "    { address = \"10.1.0.8\"; principal = \"spiffe://hud.example/batch\"; } ); } );\n"
    "peers    = ( { name = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\";\n"
    "               revocation = \"off\"; assert = [ \"uid\" ];                    # what the peer may claim without a certificate\n"
    "               gateways = [ \"spiffe://irs.example/gateway/dmz1\" ]; dial = [ \"203.0.113.20:443\" ]; links = 2; } );\n"
    "services = ( { name = \"tax-svc\";   host = \"tax-svc.irs.svc.cluster.local\"; via = \"irs\"; },\n"
    "             { name = \"ledger-db\"; host = \"db.irs.svc.cluster.local:5432\"; kind = \"tcp\"; via = \"irs\"; },\n"
    "             { name = \"permit-svc\"; host = \"permit-svc.hud.svc\"; endpoints = [ \"10.1.0.20:8080\" ]; } );\n";

static char root[64];

/* ---- the machine ---- */

struct passwd *__wrap_getpwnam(const char *name);
struct group *__wrap_getgrnam(const char *name);
int __wrap_getifaddrs(struct ifaddrs **out);
void __wrap_freeifaddrs(struct ifaddrs *list);

struct passwd *
__wrap_getpwnam(const char *name)
{
	static struct passwd pw;

	pw.pw_uid = !strcmp(name, "permit") ? 1234 : !strcmp(name, "batch") ? 1235 : 0;
	return pw.pw_uid ? &pw : NULL;
}

struct group *
__wrap_getgrnam(const char *name)
{
	static struct group gr = { .gr_gid = 77 };

	return strcmp(name, "ops") ? NULL : &gr;
}

int
__wrap_getifaddrs(struct ifaddrs **out)
{
	static const char *const texts[] = { "127.0.0.1", "::1", "10.1.0.10", "192.0.2.10", "2001:db8::10" };
	static struct ifaddrs list[6]; /* the last has no address, as tunnels do */
	static struct sockaddr_storage ss[5];

	for (int i = 0; i < 5; i++) {
		struct sockaddr_in *sin = (struct sockaddr_in *)&ss[i];
		struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&ss[i];

		if (inet_pton(AF_INET, texts[i], &sin->sin_addr) == 1)
			sin->sin_family = AF_INET;
		else if (inet_pton(AF_INET6, texts[i], &sin6->sin6_addr) == 1)
			sin6->sin6_family = AF_INET6;
		list[i].ifa_addr = (struct sockaddr *)&ss[i];
		list[i].ifa_next = &list[i + 1];
	}
	*out = list;
	return 0;
}

void
__wrap_freeifaddrs(struct ifaddrs *list)
{
	(void)list;
}

uint64_t __wrap_clock_wall_us(void);

uint64_t
__wrap_clock_wall_us(void)
{
	return (uint64_t)zoo_now * 1000000;
}

/* ---- files ---- */

char *
fixture_path(const char *name)
{
	return mem_printf("%s/%s", root, name);
}

void
fixture_write(const char *name, const void *p, size_t n)
{
	char *path = fixture_path(name);
	FILE *f = fopen(path, "w");

	if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0)
		abort();
	mem_free(path);
}

void
fixture_write_text(const char *name, const char *text)
{
	fixture_write(name, text, strlen(text));
}

void
fixture_remove(const char *name)
{
	char *path = fixture_path(name);

	if (remove(path) != 0)
		abort();
	mem_free(path);
}

static void
make_dir(const char *name)
{
	char *path = fixture_path(name);

	if (mkdir(path, 0700) != 0)
		abort();
	mem_free(path);
}

static void
write_cert(const char *name, struct zoo_cert *c)
{
	char *pem = zoo_pem(&c->x, 1), *path = mem_printf("%s/%s.key", root, name), *file = mem_printf("%s.crt", name);
	FILE *f = fopen(path, "w");

	if (!f || PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL) != 1 || fclose(f) != 0 || chmod(path, 0600) != 0)
		abort();
	fixture_write_text(file, pem);
	mem_free(file);
	mem_free(path);
	mem_free(pem);
}

static void
write_ca(const char *name, struct zoo_cert *ca)
{
	char *pem = zoo_pem(&ca->x, 1);

	fixture_write_text(name, pem);
	mem_free(pem);
}

/* from and until in seconds from now; 0: as usual. */
static void
write_leaf_for(const char *name, const char *id, const char *dns, struct zoo_cert *ca, int64_t from, int64_t until)
{
	struct zoo z = { .cn = "x", .san = { { .type = 6 /* GEN_URI */, .p = id }, { .type = dns ? 2 /* GEN_DNS */ : 0, .p = dns } },
			 .from = from ? zoo_now + from : 0, .until = until ? zoo_now + until : 0 };
	struct zoo_cert c = zoo_make(&z, ca);

	write_cert(name, &c);
	zoo_free(&c);
}

static void
write_leaf(const char *name, const char *id, const char *dns, struct zoo_cert *ca)
{
	write_leaf_for(name, id, dns, ca, 0, 0);
}

static void
chmod_private(const char *name)
{
	char *path = fixture_path(name);

	if (chmod(path, 0600) != 0)
		abort();
	mem_free(path);
}

static void
copy_file(const char *to, const char *from)
{
	char *cmd = mem_printf("cp %s/%s %s/%s", root, from, root, to);

	if (system(cmd) != 0)
		abort();
	mem_free(cmd);
}

static void
write_locked_key(const char *name)
{
	char *path = mem_printf("%s/%s", root, name);
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FILE *f = fopen(path, "w");

	if (!f || !key || PEM_write_PKCS8PrivateKey(f, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL) != 1 || fclose(f) != 0 ||
	    chmod(path, 0600) != 0)
		abort();
	EVP_PKEY_free(key);
	mem_free(path);
}

const char *
fixture_setup(void)
{
	struct zoo_cert hud, other;

	snprintf(root, sizeof(root), "/tmp/sallyport-config-XXXXXX");
	if (!mkdtemp(root))
		abort();
	make_dir("pki");
	make_dir("peers");
	make_dir("policy.d");
	hud = zoo_ca("hud.example", NULL);
	write_ca("pki/hud.example.pem", &hud);
	write_leaf("pki/gateway", "spiffe://hud.example/gateway/dmz1", NULL, &hud);
	copy_file("pki/gateway-2.crt", "pki/gateway.crt");
	write_leaf("pki/workload", "spiffe://hud.example/permit-svc", NULL, &hud);
	write_leaf("pki/inside", "spiffe://hud.example/gateway/dmz1", "tax-svc.irs.svc.cluster.local", &hud);
	write_leaf_for("pki/expired", "spiffe://hud.example/gateway/dmz1", NULL, &hud, -1800, -1);
	write_leaf_for("pki/early", "spiffe://hud.example/gateway/dmz1", NULL, &hud, 1, 3600);
	write_leaf_for("pki/soon", "spiffe://hud.example/gateway/dmz1", NULL, &hud, -1800, 60);
	zoo_free(&hud);
	hud = zoo_make(&(struct zoo){ .ca = true, .cn = "another root", .nc = "critical,permitted;URI:hud.example",
					.san = { { 6 /* GEN_URI */, "spiffe://hud.example", 0 } } }, NULL);
	write_leaf("pki/impostor", "spiffe://hud.example/gateway/dmz1", NULL, &hud);
	zoo_free(&hud);
	write_locked_key("pki/locked.key");
	fixture_write_text("pki/garbage.key", "no key\n");
	chmod_private("pki/garbage.key");
	other = zoo_ca("irs.example", NULL);
	write_ca("peers/irs.example.pem", &other);
	write_leaf("pki/foreign", "spiffe://irs.example/gateway/dmz1", NULL, &other);
	zoo_free(&other);
	other = zoo_ca("gov.example", NULL);
	write_ca("peers/gov.example.pem", &other);
	zoo_free(&other);
	return root;
}

static int
drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
fixture_teardown(void)
{
	nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
}

struct config *
fixture_load(const char *text, struct errs *errs)
{
	char *path = fixture_path("sallyport.conf");
	struct config *c;

	fixture_write_text("sallyport.conf", text);
	c = config_load(path, errs);
	mem_free(path);
	return c;
}

const char *
fixture_plain(const char *text)
{
	static char out[2048];
	size_t n = 0, skip = strlen(root) + 1;

	while (*text && n + 1 < sizeof(out)) {
		if (!strncmp(text, root, skip - 1) && text[skip - 1] == '/')
			text += skip;
		else
			out[n++] = *text++;
	}
	out[n] = '\0';
	return out;
}
