/* SPDX-License-Identifier: BSD-3-Clause */
/* Keys that client and server share beforehand: a file of user:hexkey. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/error.h"
#include "nbd-server/tls-private.h"

#define FILE_BYTES_MAX (256u * 1024)
#define KEY_BYTES_MIN  16u
#define KEY_BYTES_MAX  64u

void tls_psk_release(struct tls_context *tls)
{
	while (tls->psk_count) {
		struct tls_psk *psk = &tls->psks[--tls->psk_count];

		OPENSSL_clear_free(psk->key, psk->key_len);
		free(psk->user);
	}
	free(tls->psks);
	tls->psks = NULL;
}

const struct tls_psk *tls_psk_find(const struct tls_context *tls,
				   const char *user)
{
	for (size_t i = 0; i < tls->psk_count; i++)
		if (!strcmp(tls->psks[i].user, user))
			return &tls->psks[i];
	return NULL;
}

static int add_psk(struct tls_context *tls, char *line)
{
	char *colon = strrchr(line, ':');
	struct tls_psk *grown, *psk;
	long len = 0;

	if (!colon || colon == line)
		return -EINVAL;
	*colon = '\0';
	if (tls_psk_find(tls, line))
		return -EEXIST;
	grown = realloc(tls->psks, (tls->psk_count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	tls->psks = grown;
	psk = &grown[tls->psk_count];
	psk->key = OPENSSL_hexstr2buf(colon + 1, &len);
	psk->key_len = (size_t)len;
	psk->user = psk->key ? strdup(line) : NULL;
	if (psk->user && len >= KEY_BYTES_MIN && len <= KEY_BYTES_MAX) {
		tls->psk_count++;
		return 0;
	}
	free(psk->user);
	OPENSSL_clear_free(psk->key, psk->key_len);
	return -EINVAL;
}

static int add_lines(struct tls_context *tls, char *text, const char *path,
		     struct error *err)
{
	char *rest = text, *line;

	for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
		int ret = 0;

		line[strcspn(line, "\r")] = '\0';
		if (*line && *line != '#')
			ret = add_psk(tls, line);
		/* Never the line itself: it is the secret. */
		if (ret < 0)
			return error_set(err, -ret,
					 "Line %u of TLS key file '%s' is not "
					 "a new user, ':' and a hexadecimal "
					 "key of %u to %u bytes",
					 number, path, KEY_BYTES_MIN,
					 KEY_BYTES_MAX);
	}
	if (!tls->psk_count)
		return error_set(err, EINVAL, "No key in TLS key file '%s'",
				 path);
	return 0;
}

static int check_file(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_set_errno(err, errno, "Could not read '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size >= FILE_BYTES_MAX)
		return error_set(err, EINVAL,
				 "TLS key file '%s' is not a small file", path);
	if (st.st_mode & S_IRWXO)
		return error_set(err, EACCES,
				 "TLS key file '%s' can be used by everybody; "
				 "chmod it to 0600",
				 path);
	return 0;
}

/* The whole file as a string; nothing of it lies in a buffer of stdio's. */
static int read_text(FILE *file, char *text, const char *path,
		     struct error *err)
{
	size_t len;
	int ret = check_file(fileno(file), path, err);

	if (ret < 0)
		return ret;
	setvbuf(file, NULL, _IONBF, 0);
	len = fread(text, 1, FILE_BYTES_MAX - 1, file);
	if (ferror(file))
		return error_set_errno(err, errno, "Could not read '%s'", path);
	if (memchr(text, 0, len))
		return error_set(err, EINVAL,
				 "TLS key file '%s' is no text: it holds a NUL",
				 path);
	return 0;
}

int tls_psk_load(struct tls_context *tls, const char *path, struct error *err)
{
	char *text = OPENSSL_zalloc(FILE_BYTES_MAX);
	FILE *file = text ? fopen(path, "re") : NULL;
	int ret;

	if (!file)
		ret = error_set_errno(err, text ? errno : ENOMEM,
				      "Could not open TLS key file '%s'", path);
	else
		ret = read_text(file, text, path, err);
	if (!ret)
		ret = add_lines(tls, text, path, err);
	OPENSSL_clear_free(text, FILE_BYTES_MAX);
	if (file)
		fclose(file);
	return ret;
}
