/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/p11uri.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"

#define SCHEME "pkcs11:"

bool
p11uri_is(const char *text)
{
	return text && !strncmp(text, SCHEME, sizeof(SCHEME) - 1);
}

struct attribute {
	const char *name, *value;
	size_t name_len, value_len;
};

static bool
is(const struct attribute *a, const char *name)
{
	return a->name_len == strlen(name) && !memcmp(a->name, name, a->name_len);
}

/* RFC 7512 2.3: name=value up to one of "ends"; what follows, or NULL with *why. */
static const char *
attribute(const char *at, const char *ends, struct attribute *a, const char **why)
{
	a->name = at;
	a->name_len = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
	if (a->name_len == 0 || at[a->name_len] != '=') {
		*why = "expected NAME=VALUE";
		return NULL;
	}
	a->value = at += a->name_len + 1;
	for (; *at && !strchr(ends, *at); at++) {
		uint8_t octet;

		if (*at == '%' && (!at[1] || !at[2] || esc_unhex(&octet, at + 1, 2) < 0 || octet < ' ')) {
			*why = "\"%\" is not followed by two digits of an octet that is no control character";
			return NULL;
		}
		if (!isalnum((unsigned char)*at) && !strchr("%-._~:[]@!$'()*+,=/|&", *at)) {
			*why = "a character that has to be written as %XX";
			return NULL;
		}
	}
	a->value_len = (size_t)(at - a->value);
	return at;
}

static int
take_pin(const struct attribute *a, char **pin_file, const char **why)
{
	char *file = mem_alloc(a->value_len + 1), *from;
	size_t n = 0;

	for (size_t i = 0; i < a->value_len; i++) {
		if (a->value[i] == '%') {
			esc_unhex((uint8_t *)&file[n++], a->value + i + 1, 2);
			i += 2;
		} else {
			file[n++] = a->value[i];
		}
	}
	file[n] = '\0';
	from = file;
	if (!strncmp(from, "file:", 5))
		from += strncmp(from, "file:///", 8) ? 5 : 7;
	if (*from != '/') {
		mem_free(file);
		*why = "\"pin-source\" has to be file:/NAME, an absolute one";
		return -1;
	}
	*pin_file = mem_strdup(from);
	mem_free(file);
	return 0;
}

static int
take_query(const char *at, char **pin_file, const char **why)
{
	struct attribute a;

	while ((at = attribute(at, "&", &a, why))) {
		if (is(&a, "pin-value")) {
			*why = "the PIN itself does not belong here (\"pin-value\"): put it into a file that only root can read, and name that with \"pin-source=file:/NAME\"";
			return -1;
		}
		if (is(&a, "module-path") || is(&a, "module-name")) {
			*why = "the module is named by \"hsm.module\"";
			return -1;
		}
		if (!is(&a, "pin-source") || *pin_file) {
			*why = "after \"?\" only one \"pin-source\" is known";
			return -1;
		}
		if (take_pin(&a, pin_file, why) < 0)
			return -1;
		if (*at++ == '\0')
			return 0;
	}
	return -1;
}

int
p11uri_split(const char *text, char **key, char **pin_file, const char **why)
{
	const char *at = text + sizeof(SCHEME) - 1;
	bool named = false, typed = false, token = false;
	struct attribute a;
	size_t len;

	*key = *pin_file = NULL;
	if (!p11uri_is(text) || strlen(text) > P11URI_MAX) {
		*why = "not a pkcs11: URI of at most 1000 characters";
		return -1;
	}
	for (;;) {
		at = attribute(at, ";?", &a, why);
		if (!at)
			return -1;
		if (is(&a, "object") || is(&a, "id"))
			named = a.value_len > 0;
		if (is(&a, "token") || is(&a, "serial"))
			token = a.value_len > 0;
		if (is(&a, "type")) {
			typed = true;
			if (a.value_len != 7 || memcmp(a.value, "private", 7)) {
				*why = "its type has to be \"private\"";
				return -1;
			}
		}
		if (*at != ';')
			break;
		at++;
	}
	if (!named) {
		*why = "it names no key: \"object\" or \"id\" is missing";
		return -1;
	}
	len = (size_t)(at - text);
	if (*at == '?' && !token) { /* others would be tried with it, and might lock themselves */
		*why = "a PIN is for one token: name it by \"token\" or \"serial\"";
		return -1;
	}
	if (*at == '?' && take_query(at + 1, pin_file, why) < 0) {
		mem_free(*pin_file);
		*pin_file = NULL;
		return -1;
	}
	*key = mem_printf("%.*s%s", (int)len, text, typed ? "" : ";type=private");
	return 0;
}
