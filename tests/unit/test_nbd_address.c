/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of NBD exports: what they mean, and what is refused in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/options.h"
#include "block/storage/nbd-address.h"

/* NULL is "none". */
static void expect_text(const char *text, const char *wanted)
{
	if (wanted && text)
		assert_string_equal(text, wanted);
	else
		assert_ptr_equal(text, wanted);
}

static struct nbd_address parsed(const char *text)
{
	struct nbd_address address;
	struct error err = {0};

	assert_true(nbd_address_is(text));
	if (nbd_address_parse(&address, text, &err))
		fail_msg("%s: %s", text, err.message);
	return address;
}

static void expect_tcp(const char *text, const char *host, const char *port,
		       const char *export_name)
{
	struct nbd_address address = parsed(text);

	expect_text(address.host, host);
	expect_text(address.port, port);
	expect_text(address.export_name, export_name);
	assert_null(address.socket);
	nbd_address_release(&address);
}

static void expect_unix(const char *text, const char *socket,
			const char *export_name)
{
	struct nbd_address address = parsed(text);

	expect_text(address.socket, socket);
	expect_text(address.export_name, export_name);
	assert_null(address.host);
	nbd_address_release(&address);
}

static void expect_name(const char *text, const char *name)
{
	struct nbd_address address = parsed(text), again;

	assert_string_equal(address.name, name);
	again = parsed(name);
	assert_string_equal(again.name, name);
	nbd_address_release(&again);
	nbd_address_release(&address);
}

static void expect_refused(const char *text, const char *part)
{
	struct nbd_address address;
	struct error err = {0};

	assert_int_equal(nbd_address_parse(&address, text, &err), -EINVAL);
	if (!strstr(err.message, part))
		fail_msg("%s: no '%s' in it", err.message, part);
	assert_null(address.name);
	assert_null(address.export_name);
}

static void only_schemes_of_nbd_are_names(void **state)
{
	(void)state;
	assert_false(nbd_address_is("nbd"));
	assert_false(nbd_address_is("./nbd:x"));
	assert_false(nbd_address_is("nbd/x:y"));
	assert_false(nbd_address_is("nbdx:y"));
	assert_false(nbd_address_is("NBD:y"));
	assert_true(nbd_address_is("nbd+vsock://2"));
	assert_false(nbd_address_is("nbd+ssh://2"));
	assert_false(nbd_address_is("json:nbd:x"));
	assert_false(nbd_address_is(""));
}

static int take(const char *text, struct nbd_address *address, size_t *left)
{
	struct options opts = {0};
	struct error err = {0};
	int ret;

	assert_int_equal(options_parse(&opts, text, &err), 0);
	ret = nbd_address_take(address, &opts, &err);
	*left = opts.count;
	options_release(&opts);
	return ret;
}

static void uris_name_hosts(void **state)
{
	(void)state;
	expect_tcp("nbd://h", "h", "10809", "");
	expect_tcp("nbd://h/", "h", "10809", "");
	expect_tcp("nbd://h:1/x", "h", "1", "x");
	expect_tcp("nbd://h:/x", "h", "10809", "x");
	expect_tcp("nbd+tcp://h/a/b", "h", "10809", "a/b");
	expect_tcp("nbd://h//disk", "h", "10809", "/disk");
	expect_tcp("nbd://[::1]:65535/x", "::1", "65535", "x");
	expect_tcp("nbd://h/a%20b%3fc%2F", "h", "10809", "a b?c/");
}

static void uris_name_sockets(void **state)
{
	(void)state;
	expect_unix("nbd+unix:///?socket=/run/s", "/run/s", "");
	expect_unix("nbd+unix://?socket=s", "s", "");
	expect_unix("nbd+unix:///x%25?socket=a%26b", "a&b", "x%");
}

static void older_forms_are_not_encoded(void **state)
{
	(void)state;
	expect_unix("nbd:unix:/a%20b", "/a%20b", "");
	expect_unix("nbd:unix:/s:exportname=a:b", "/s", "a:b");
	expect_unix("nbd:unix:/s:exportname=", "/s", "");
	expect_tcp("nbd:h:1", "h", "1", "");
	expect_tcp("nbd:[::1]:2:exportname=x%", "::1", "2", "x%");
}

static void names_have_one_spelling(void **state)
{
	(void)state;
	expect_name("nbd:unix:/a b:exportname=x?", "nbd+unix:///x%3F"
						   "?socket=/a%20b");
	expect_name("nbd:h:10809", "nbd://h:10809/");
	expect_name("nbd://h/%78", "nbd://h:10809/x");
	expect_name("nbds://[::1]/x", "nbds://[::1]:10809/x");
	expect_name("nbd+unix:///%1b?socket=%ff", "nbd+unix:///%1B?socket=%FF");
}

static void machines_have_numbers(void **state)
{
	struct nbd_address address, copy;
	size_t left;

	(void)state;
	expect_name("nbd+vsock://3:70000/a%20b", "nbd+vsock://3:70000/a%20b");
	expect_name("nbd+vsock:///x", "nbd+vsock://2:10809/x");
	expect_name("nbds+vsock://4294967295",
		    "nbds+vsock://4294967295:10809/");
	expect_refused("nbd+vsock://h", "number of 32 bits, not 'h'");
	expect_refused("nbd+vsock://4294967296", "not '4294967296'");
	expect_refused("nbd+vsock://1:4294967296", "vsock port");
	expect_refused("nbd+vsock://1:-1", "vsock port");
	expect_refused("nbd+vsock://1/?socket=s", "'socket' is not known");
	assert_int_equal(take("server.type=vsock,server.cid=3,server.port=5",
			      &address, &left),
			 0);
	assert_string_equal(address.name, "nbd+vsock://3:5/");
	assert_int_equal(nbd_address_copy(&copy, &address), 0);
	assert_true(copy.vsock);
	nbd_address_release(&copy);
	nbd_address_release(&address);
	assert_int_equal(take("server.cid=3", &address, &left), -EINVAL);
	assert_int_equal(take("server.type=inet,server.cid=3", &address, &left),
			 -EINVAL);
	assert_int_equal(take("server.type=vsock,server.cid=3,server.host=3",
			      &address, &left),
			 -EINVAL);
	assert_int_equal(take("server.type=vsock,path=/s", &address, &left),
			 -EINVAL);
}

static void times_are_seconds(void **state)
{
	struct nbd_address address;

	(void)state;
	address = parsed("nbd://h");
	assert_int_equal(address.timeout_seconds, NBD_TIMEOUT_SECONDS);
	assert_int_equal(address.open_timeout_seconds, 0);
	nbd_address_release(&address);
	address = parsed("nbd://h/?timeout=5&open-timeout=86400");
	assert_int_equal(address.timeout_seconds, 5);
	assert_int_equal(address.open_timeout_seconds, 86400);
	/* Where an export is does not depend on them. */
	assert_string_equal(address.name, "nbd://h:10809/");
	nbd_address_release(&address);
	expect_refused("nbd://h/?timeout=0", "from 1 to 86400, not '0'");
	expect_refused("nbd://h/?timeout=4294967297", "not '4294967297'");
	expect_refused("nbd://h/?open-timeout=", "from 0 to 86400");
}

static void tls_comes_with_its_credentials(void **state)
{
	struct nbd_address address;

	(void)state;
	address = parsed("nbd://h");
	assert_false(address.tls);
	nbd_address_release(&address);
	address = parsed("nbds://me@h/x?tls-psk-file=/k&tls-certificates=/c");
	assert_true(address.tls);
	assert_false(address.tls_trust_any);
	expect_text(address.tls_username, "me");
	expect_text(address.tls_psk_file, "/k");
	expect_text(address.tls_certificates, "/c");
	nbd_address_release(&address);
	address = parsed("nbds+unix:///?socket=s&tls-verify-peer=0");
	assert_true(address.tls_trust_any);
	nbd_address_release(&address);
	expect_refused("nbd://h/?tls-psk-file=/k", "no TLS is asked for");
	expect_refused("nbd://me@h/", "no TLS is asked for");
	expect_refused("nbds://h/?tls-verify-peer=no", "has to be 0 or 1");
}

static void bad_names_are_refused(void **state)
{
	char socket[200] = "nbd:unix:", *name = malloc(NBD_NAME_MAX + 20);

	(void)state;
	expect_refused("x", "no name of an NBD export");
	expect_refused("nbd:", "port of the NBD server is missing");
	expect_refused("nbd::1", "host of the NBD server is missing");
	expect_refused("nbd:h", "port of the NBD server is missing");
	expect_refused("nbd:h:0", "'0' is no port");
	expect_refused("nbd:h:65536", "'65536' is no port");
	expect_refused("nbd:h:1x", "'1x' is no port");
	expect_refused("nbd:h: 1", "' 1' is no port");
	expect_refused("nbd:unix:", "socket is empty");
	expect_refused("nbds:h:1", "two slashes");
	expect_refused("nbds://a@b@c/", "'b@c' is no name of a host");
	expect_refused("nbd://a%2Fb/", "'a/b' is no name of a host");
	expect_refused("nbd:[a]b:1", "'b:1' where the port begins");
	expect_refused("nbd:a b:1", "'a b' is no name of a host");
	expect_refused("nbd://", "host of the NBD server is missing");
	expect_refused("nbd://[::1/x", "'[' without ']'");
	expect_refused("nbd://[::1]x/y", "'x' where the port begins");
	expect_refused("nbd://h/a%00b", "stands for no byte: '%00'");
	expect_refused("nbd://h/a%0", "'%0'");
	expect_refused("nbd://h/a%", "'%'");
	expect_refused("nbd://h/a%g0", "'%g0'");
	expect_refused("nbd://h/a%-1", "'%-1'");
	expect_refused("nbd://h/x#y", "fragment");
	expect_refused("nbd://h/?socket=s", "'socket' is not known");
	expect_refused("nbd://h/?tls-certificate=x", "'tls-certificate'");
	expect_refused("nbd+unix:///x", "names no socket");
	expect_refused("nbd+unix://h/x?socket=s", "has no host");
	expect_refused("nbd+unix:///?socket=", "socket is empty");
	memset(socket + strlen(socket), 'a', 108);
	expect_refused(socket, "at most 107");
	assert_non_null(name);
	snprintf(name, NBD_NAME_MAX + 20, "nbd://h/%0*d", NBD_NAME_MAX + 1, 0);
	expect_refused(name, "at most 4096");
	free(name);
}

/* Nothing is ever run for a name, so a dash means nothing. */
static void a_host_is_never_an_option(void **state)
{
	(void)state;
	expect_tcp("nbd://-oProxyCommand/x", "-oProxyCommand", "10809", "x");
	expect_refused("nbd://-oProxyCommand=touch/x", "no name of a host");
	expect_refused("nbd+ssh://h/x", "no name of an NBD export");
}

static void options_name_the_same(void **state)
{
	struct nbd_address address;
	size_t left;

	(void)state;
	assert_int_equal(take("server.type=inet,server.host=h,server.port=5,"
			      "export=x,other=1",
			      &address, &left),
			 0);
	assert_string_equal(address.name, "nbd://h:5/x");
	assert_int_equal(left, 1);
	nbd_address_release(&address);
	assert_int_equal(take("path=/s", &address, &left), 0);
	assert_string_equal(address.name, "nbd+unix:///?socket=/s");
	nbd_address_release(&address);
	assert_int_equal(take("path=/s,tls=on,tls-psk-file=k,"
			      "tls-verify-peer=off",
			      &address, &left),
			 0);
	assert_true(address.tls && address.tls_trust_any);
	nbd_address_release(&address);
	assert_int_equal(take("path=/s,host=h", &address, &left), -EINVAL);
	assert_int_equal(take("server.type=unix,host=h", &address, &left),
			 -EINVAL);
	assert_int_equal(take("server.type=inet,path=h", &address, &left),
			 -EINVAL);
	assert_int_equal(take("server.type=fd,server.str=3", &address, &left),
			 -ENOTSUP);
	assert_int_equal(take("path=/s,tls=yes", &address, &left), -EINVAL);
	assert_int_equal(take("export=x", &address, &left), -EINVAL);
}

static void copies_stand_alone(void **state)
{
	struct nbd_address address = parsed("nbds://u@h:1/x?tls-psk-file=k"),
			   copy;

	(void)state;
	assert_int_equal(nbd_address_copy(&copy, &address), 0);
	nbd_address_release(&address);
	assert_string_equal(copy.name, "nbds://h:1/x");
	assert_string_equal(copy.tls_psk_file, "k");
	assert_string_equal(copy.tls_username, "u");
	assert_true(copy.tls);
	nbd_address_release(&copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_schemes_of_nbd_are_names),
		cmocka_unit_test(uris_name_hosts),
		cmocka_unit_test(uris_name_sockets),
		cmocka_unit_test(older_forms_are_not_encoded),
		cmocka_unit_test(names_have_one_spelling),
		cmocka_unit_test(machines_have_numbers),
		cmocka_unit_test(times_are_seconds),
		cmocka_unit_test(tls_comes_with_its_credentials),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(a_host_is_never_an_option),
		cmocka_unit_test(options_name_the_same),
		cmocka_unit_test(copies_stand_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
