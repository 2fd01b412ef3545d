/* SPDX-License-Identifier: BSD-3-Clause */
/* Who may come, of those whom keys and certificates let in. */
#include <errno.h>
#include <openssl/x509.h>
#include <string.h>

#include "block/error.h"
#include "nbd-server/tls-private.h"

#define DN_MAX 1024

/* As much of a client as rules look at; NULL is what it does not have. */
struct names {
	char *dn, *cn;
};

/* ---- rules ---- */

static const char *next_character(const char *text)
{
	do {
		text++;
	} while (((unsigned char)*text & 0xc0) == 0x80);
	return text;
}

/* `*` is any characters, `?` is one; nothing else is special. */
static bool matches(const char *pattern, const char *text)
{
	const char *star = NULL, *from = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			from = text;
		} else if (*pattern == '?') {
			pattern++;
			text = next_character(text);
		} else if (*pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = from = next_character(from);
		} else {
			return false;
		}
	}
	return !pattern[strspn(pattern, "*")];
}

/* A common name that looks like a distinguished one must not pass for it. */
static const char *name_for(const struct tls_authz *authz,
			    const struct tls_rule *rule,
			    const struct names *names)
{
	return authz->as_qemu || strchr(rule->match, '=') ? names->dn
							  : names->cn;
}

static bool may_come(const struct tls_authz *authz, const struct names *names)
{
	for (size_t i = 0; i < authz->rule_count; i++) {
		const struct tls_rule *rule = &authz->rules[i];
		const char *name = name_for(authz, rule, names);

		if (name && (rule->glob ? matches(rule->match, name)
					: !strcmp(rule->match, name)))
			return rule->allow;
	}
	return authz->otherwise;
}

/* ---- names ---- */

/* In UTF-8, backwards as RFC 4514 has it, or in order. */
static char *distinguished_name(const X509_NAME *subject, bool in_order)
{
	const unsigned long flags =
		XN_FLAG_RFC2253 &
		~(ASN1_STRFLGS_ESC_MSB | (in_order ? XN_FLAG_DN_REV : 0));
	BIO *bio = BIO_new(BIO_s_mem());
	char *dn = OPENSSL_zalloc(DN_MAX);
	bool good = bio && dn &&
		    X509_NAME_print_ex(bio, subject, 0, flags) > 0 &&
		    BIO_read(bio, dn, DN_MAX - 1) > 0 && !BIO_pending(bio);

	BIO_free(bio);
	if (good)
		return dn;
	OPENSSL_free(dn);
	return NULL;
}

static char *common_name(const X509_NAME *subject)
{
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, at);
	unsigned char *cn = NULL;
	int len = -1;

	if (entry)
		len = ASN1_STRING_to_UTF8(&cn, X509_NAME_ENTRY_get_data(entry));
	if (len > 0 && strlen((char *)cn) == (size_t)len)
		return (char *)cn;
	OPENSSL_free(cn);
	return NULL;
}

static int refuse(const char *name, struct error *err)
{
	struct quoted_name text;

	return error_set(err, EACCES, "'%s' is not authorised",
			 quote_name(&text, name ? name : ""));
}

static int authorise_certificate(const struct tls_context *tls, const SSL *ssl,
				 struct error *err)
{
	const X509 *cert = tls->lib->SSL_get0_peer_certificate(ssl);
	const X509_NAME *subject;
	struct names names;
	int ret = 0;

	if (!cert || tls->lib->SSL_get_verify_result(ssl) != X509_V_OK)
		return refuse(NULL, err);
	subject = X509_get_subject_name(cert);
	names.dn = distinguished_name(subject, tls->authz->as_qemu);
	names.cn = common_name(subject);
	/* A rule against it might be there, so it needs a name. */
	if (!names.dn || !may_come(tls->authz, &names))
		ret = refuse(names.dn, err);
	OPENSSL_free(names.dn);
	OPENSSL_free(names.cn);
	return ret;
}

int tls_authorise(const struct tls_context *tls, const SSL *ssl, char *user,
		  struct error *err)
{
	const struct names names = {user, user};

	if (!tls->authz)
		return 0;
	if (!user)
		return authorise_certificate(tls, ssl, err);
	return may_come(tls->authz, &names) ? 0 : refuse(user, err);
}
