/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names that users give to images. The input is such a text. What is
 * accepted names a file or an NBD export; what is not leaves nothing behind but
 * a message.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-spec.h"
#include "block/opener.h"
#include "block/quote.h"
#include "block/storage/nbd-address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The name says all but the credentials: it leads to the same export. */
static void check_export(const struct nbd_address *address)
{
	struct nbd_address again = {0};

	assert(!address->socket != !address->host);
	/* Without credentials a name may stand for an address that has some. */
	assert(nbd_address_parse(&again, address->name, NULL) == 0);
	assert(!strcmp(again.name, address->name));
	assert(!strcmp(again.export_name, address->export_name));
	assert(!address->socket || !strcmp(again.socket, address->socket));
	assert(!address->host || !strcmp(again.host, address->host));
	assert(again.tls == address->tls);
	nbd_address_release(&again);
}

static void check(int ret, struct image_spec *spec, const struct error *err)
{
	assert((ret < 0) == (err->code != 0));
	if (ret) {
		assert(!strncmp(err->message, "Could not open '", 16));
		assert(!spec->path && !spec->text && !spec->options.items);
		return;
	}
	assert(spec->path && *spec->path);
	assert(nbd_address_is(spec->path) == (spec->nbd != NULL));
	if (spec->nbd)
		check_export(spec->nbd);
	assert(!options_get(&spec->options, "driver"));
	assert(!options_get(&spec->options, "file.filename"));
	image_spec_release(spec);
}

static void check_quoted(const char *text)
{
	struct quoted_name quoted;
	size_t len = strlen(quote_name(&quoted, text));

	assert(len < sizeof(quoted.text));
	for (size_t i = 0; i < len; i++)
		assert((unsigned char)quoted.text[i] >= 0x20 &&
		       quoted.text[i] != 0x7f);
}

/*
 * A name in an image is no protocol but NBD's; that and an absolute path stay
 * as they are.
 */
static void check_resolved(const char *text)
{
	char *path = NULL;

	if (opener_resolve("/folder/image", text, &path, NULL)) {
		assert(!path);
		return;
	}
	assert(nbd_address_is(path) == nbd_address_is(text));
	if (nbd_address_is(text)) {
		assert(!strcmp(path, text));
		free(path);
		return;
	}
	assert(*path == '/' && text[strcspn(text, ":/")] != ':');
	assert(!strcmp(path + (*text == '/' ? 0 : strlen("/folder/")), text));
	free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_spec spec;
	struct error err = {0};
	char *text = strndup((const char *)data, size);

	if (!text)
		return 0;
	check(image_spec_parse(&spec, text, NULL, &err), &spec, &err);
	err = (struct error){0};
	check(image_spec_parse_opts(&spec, text, &err), &spec, &err);
	check_quoted(text);
	check_resolved(text);
	free(text);
	return 0;
}
