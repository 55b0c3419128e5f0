/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED /* engines are, and all that Debian 12 has */
#include "gateway/keys/token.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>

#include "gateway/base/mem.h"

#define NO_SUCH_KEY "pkcs11:token=none;object=none"

static struct {
	char *module;
	OSSL_PROVIDER *provider;  /* one of the two */
#ifndef OPENSSL_NO_ENGINE
	ENGINE *engine;
	bool engine_on;           /* it has started */
#endif
} t;

/* Every reason that OpenSSL has noted, in order. */
static void
explain(char why[KEYS_TOKEN_WHY], const char *what, bool *bad_pin)
{
	size_t n = (size_t)snprintf(why, KEYS_TOKEN_WHY, "%s", what);
	unsigned long e;

	while ((e = ERR_get_error())) {
		const char *reason = ERR_reason_error_string(e);
		char text[128];

		if (!reason) {
			ERR_error_string_n(e, text, sizeof(text));
			reason = text;
		}
		if (bad_pin && strstr(reason, "PIN"))
			*bad_pin = true;
		if (n < KEYS_TOKEN_WHY && !strstr(why, reason))
			n += (size_t)snprintf(why + n, KEYS_TOKEN_WHY - n, ": %s", reason);
	}
}

/* ---- provider ---- */

static bool
provider_on(void)
{
	t.provider = OSSL_PROVIDER_load(NULL, "pkcs11");
	return t.provider != NULL;
}

struct pin {
	const char *text;    /* NULL: none is given */
	bool asked;
};

static int
give_pin(char *out, int size, int writing, void *arg)
{
	struct pin *pin = arg;
	size_t n = pin->text ? strlen(pin->text) : 0;

	(void)writing;
	pin->asked = true;
	if (n == 0 || n > (size_t)size)
		return -1;
	memcpy(out, pin->text, n);
	return (int)n;
}

static EVP_PKEY *
provider_find(const char *uri, struct pin *pin)
{
	UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(give_pin, 0);
	OSSL_STORE_CTX *store = ui ? OSSL_STORE_open(uri, ui, pin, NULL, NULL) : NULL;
	EVP_PKEY *key = NULL;

	if (store)
		OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
	while (store && !key && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		if (!info && OSSL_STORE_error(store))
			break;
		if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			key = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(store);
	UI_destroy_method(ui);
	return key;
}

/*
 * A token that does not take the PIN looks like one without the key: OSSL_STORE_open drops the reason. So it is looked once more, with no PIN to
 * give: who is logged in is not asked for one.
 */
static EVP_PKEY *
provider_key(const char *uri, const char *pin, bool *bad_pin)
{
	struct pin given = { .text = pin }, none = { .text = NULL };
	EVP_PKEY *key = provider_find(uri, &given);

	if (!key && pin && given.asked) {
		EVP_PKEY_free(provider_find(uri, &none));
		*bad_pin = none.asked;
	}
	return key;
}

/* ---- engine ---- */

#ifndef OPENSSL_NO_ENGINE
static bool
engine_on(void)
{
	t.engine = ENGINE_by_id("pkcs11");
	if (!t.engine || !ENGINE_ctrl_cmd_string(t.engine, "MODULE_PATH", t.module, 0))
		return false;
	ENGINE_ctrl_cmd_string(t.engine, "QUIET", NULL, 0);
	t.engine_on = ENGINE_init(t.engine) == 1;
	return t.engine_on;
}

static EVP_PKEY *
engine_key(const char *uri, const char *pin)
{
	if (pin && !ENGINE_ctrl_cmd_string(t.engine, "PIN", pin, 0))
		return NULL;
	return ENGINE_load_private_key(t.engine, uri, (UI_METHOD *)(uintptr_t)UI_null(), NULL);
}
#endif

/* ---- either ---- */

int
keys_token_load(const char *module, const char **via, char why[KEYS_TOKEN_WHY])
{
	/* Kept mapped, whoever closes it: later nothing can be mapped any more. */
	if (!dlopen(module, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
		const char *reason = dlerror();

		snprintf(why, KEYS_TOKEN_WHY, "hsm.module cannot be loaded: %s", reason ? reason : "?");
		return -1;
	}
	t.module = mem_strdup(module);
	setenv("PKCS11_PROVIDER_MODULE", module, 1);
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_ENGINE_DYNAMIC, NULL);
	UI_set_default_method(UI_null()); /* nobody is asked for a PIN */
	OSSL_PROVIDER_load(NULL, "default"); /* loading another by hand ends its automatic loading */
	*via = "provider";
	if (provider_on()) {
		EVP_PKEY_free(provider_find(NO_SUCH_KEY, &(struct pin){ .text = NULL })); /* now it has initialised the module */
		ERR_clear_error();
		return 0;
	}
#ifndef OPENSSL_NO_ENGINE
	ERR_clear_error();
	*via = "engine";
	if (engine_on()) {
		EVP_PKEY_free(ENGINE_load_public_key(t.engine, NO_SUCH_KEY, (UI_METHOD *)(uintptr_t)UI_null(), NULL));
		ERR_clear_error();
		return 0;
	}
	if (t.engine) {
		explain(why, "OpenSSL's engine \"pkcs11\" does not start", NULL);
		return -1;
	}
#endif
	ERR_clear_error();
	snprintf(why, KEYS_TOKEN_WHY, "OpenSSL has nothing for PKCS#11 here: install the package pkcs11-provider, or libengine-pkcs11-openssl (Debian 12)");
	return -1;
}

struct evp_pkey_st *
keys_token_key(const char *uri, const char *pin, bool *bad_pin, char why[KEYS_TOKEN_WHY])
{
	EVP_PKEY *key = NULL;

	*bad_pin = false;
	ERR_clear_error();
	if (t.provider)
		key = provider_key(uri, pin, bad_pin);
#ifndef OPENSSL_NO_ENGINE
	else if (t.engine_on)
		key = engine_key(uri, pin);
#endif
	if (!key)
		explain(why, "no such private key in it", bad_pin);
	if (*bad_pin)
		snprintf(why, KEYS_TOKEN_WHY, "it does not take the PIN (wrong or locked)");
	ERR_clear_error();
	return key;
}
