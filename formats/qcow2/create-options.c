/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options of new images, for create and measure.
 *
 * The table lists everything that QEMU's qcow2 has, so that scripts get an
 * answer about each name. What cannot be made yet is refused unless it is off.
 */
#include "formats/qcow2/new-image.h"

#include <inttypes.h>
#include <string.h>

#include "block/error.h"
#include "block/options.h"
#include "formats/qcow2/qcow2.h"

#define BACKING_FORMAT_MAX 15

const struct option_def qcow2_create_options[] = {
	{"backing_file", OPTION_STRING, "Name of the base image", NULL},
	{"backing_fmt", OPTION_STRING, "Format of the base image", NULL},
	{"cluster_size", OPTION_SIZE, "Unit of allocation, 512 to 2M", "65536"},
	{"compat", OPTION_STRING, "Format version: 0.10 (v2) or 1.1 (v3)",
	 NULL},
	{"compression_type", OPTION_STRING,
	 "How clusters are packed: zlib or zstd", "zlib"},
	{"data_file", OPTION_STRING,
	 "Name of an external data file (not supported yet)", NULL},
	{"data_file_raw", OPTION_BOOL,
	 "Keep the data file a raw image (not supported yet)", NULL},
	{"encrypt.cipher-alg", OPTION_STRING, "Cipher (not supported yet)",
	 NULL},
	{"encrypt.cipher-mode", OPTION_STRING,
	 "Cipher mode (not supported yet)", NULL},
	{"encrypt.format", OPTION_STRING,
	 "Encryption: aes or luks (not supported yet)", NULL},
	{"encrypt.hash-alg", OPTION_STRING, "Hash for keys (not supported yet)",
	 NULL},
	{"encrypt.iter-time", OPTION_NUMBER,
	 "Milliseconds to spend on a key (not supported yet)", NULL},
	{"encrypt.ivgen-alg", OPTION_STRING,
	 "How sector IVs are made (not supported yet)", NULL},
	{"encrypt.ivgen-hash-alg", OPTION_STRING,
	 "Hash for sector IVs (not supported yet)", NULL},
	{"encrypt.key-secret", OPTION_STRING,
	 "Id of the secret with the passphrase (not supported yet)", NULL},
	{"encryption", OPTION_BOOL,
	 "Old form of encrypt.format=aes (not supported yet)", NULL},
	{"extended_l2", OPTION_BOOL,
	 "Track parts of clusters (not supported yet)", "off"},
	{"lazy_refcounts", OPTION_BOOL, "Write reference counts late", "off"},
	{"preallocation", OPTION_STRING,
	 "Allocate at once: off, metadata, falloc or full", NULL},
	{"refcount_bits", OPTION_NUMBER,
	 "Width of a reference count: 1, 2, 4, 8, 16, 32 or 64", "16"},
	{"size", OPTION_SIZE, "Virtual disk size", NULL},
	{NULL, OPTION_STRING, NULL, NULL},
};

static const struct option_def *const table = qcow2_create_options;

static int parse_version(struct qcow2_new *n, const char *text,
			 struct error *err)
{
	n->version = 3;
	if (!text || !strcmp(text, "1.1") || !strcmp(text, "v3"))
		return 0;
	n->version = 2;
	if (!strcmp(text, "0.10") || !strcmp(text, "v2"))
		return 0;
	return error_set(err, EINVAL,
			 "Invalid compatibility level: '%s'; use 0.10 (v2) or "
			 "1.1 (v3)",
			 text);
}

static int parse_cluster_size(struct qcow2_new *n, const struct options *opts,
			      struct error *err)
{
	uint64_t size;
	int ret =
		options_get_size(opts, table, "cluster_size", &size, NULL, err);

	if (ret < 0)
		return ret;
	if (!is_power_of_2(size) || size < 1u << QCOW2_CLUSTER_BITS_MIN ||
	    size > 1u << QCOW2_CLUSTER_BITS_MAX)
		return error_set(err, EINVAL,
				 "Cluster size must be a power of two between "
				 "512 and 2048k, not %" PRIu64,
				 size);
	n->cluster_bits = (uint32_t)__builtin_ctzll(size);
	return 0;
}

static int parse_refcount_bits(struct qcow2_new *n, const struct options *opts,
			       struct error *err)
{
	uint64_t bits;
	int ret = options_get_size(opts, table, "refcount_bits", &bits, NULL,
				   err);

	if (ret < 0)
		return ret;
	if (!is_power_of_2(bits) || bits > 64)
		return error_set(err, EINVAL,
				 "Refcount width must be a power of two and "
				 "may not exceed 64 bits; it is %" PRIu64,
				 bits);
	n->refcount_order = (unsigned)__builtin_ctzll(bits);
	return 0;
}

static int parse_compression(struct qcow2_new *n, const char *text,
			     struct error *err)
{
	if (!strcmp(text, "zlib"))
		n->compression_type = QCOW2_COMPRESSION_DEFLATE;
	else if (!strcmp(text, "zstd"))
		n->compression_type = QCOW2_COMPRESSION_ZSTD;
	else
		return error_set(err, EINVAL,
				 "Parameter 'compression_type' does not accept "
				 "value '%s'; use zlib or zstd",
				 text);
	return 0;
}

static int parse_prealloc(struct qcow2_new *n, const char *text,
			  struct error *err)
{
	static const struct {
		const char *name;
		enum prealloc_mode mode;
	} modes[] = {
		{"off", PREALLOC_OFF},
		{"metadata", PREALLOC_METADATA},
		{"falloc", PREALLOC_FALLOC},
		{"full", PREALLOC_FULL},
	};

	n->prealloc = PREALLOC_OFF;
	if (!text)
		return 0;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(text, modes[i].name)) {
			n->prealloc = modes[i].mode;
			return 0;
		}
	return error_set(err, EINVAL,
			 "Unsupported preallocation mode '%s'; use off, "
			 "metadata, falloc or full",
			 text);
}

static int parse_encryption(struct qcow2_new *n, const struct options *opts,
			    struct error *err)
{
	const char *format = options_get(opts, "encrypt.format");
	bool old_form;
	int ret = options_get_bool(opts, table, "encryption", &old_form, err);

	if (ret < 0)
		return ret;
	if (format && strcmp(format, "aes") && strcmp(format, "luks"))
		return error_set(err, EINVAL,
				 "Parameter 'encrypt.format' does not accept "
				 "value '%s'; use aes or luks",
				 format);
	if (format && !strcmp(format, "luks"))
		n->crypt_method = QCOW2_CRYPT_LUKS;
	else if (format || old_form)
		n->crypt_method = QCOW2_CRYPT_AES;
	return 0;
}

/* Options that say something about an encryption which is not asked for. */
static int check_stray_encryption(const struct qcow2_new *n,
				  const struct options *opts, struct error *err)
{
	for (size_t i = 0; i < opts->count && !n->crypt_method; i++)
		if (!strncmp(opts->items[i].name, "encrypt.", 8))
			return error_set(err, EINVAL,
					 "Parameter '%s' needs encrypt.format",
					 opts->items[i].name);
	return 0;
}

static int parse_backing(struct qcow2_new *n, const struct options *opts,
			 struct error *err)
{
	n->backing_name = options_get(opts, "backing_file");
	n->backing_format = options_get(opts, "backing_fmt");
	if (n->backing_name && !*n->backing_name)
		n->backing_name = NULL;
	if (n->backing_format && !*n->backing_format)
		n->backing_format = NULL;
	if (n->backing_format && !n->backing_name)
		return error_set(err, EINVAL,
				 "Parameter 'backing_fmt' needs backing_file");
	if (n->backing_format && strlen(n->backing_format) > BACKING_FORMAT_MAX)
		return error_set(err, EINVAL,
				 "Backing format name '%s' is too long; the "
				 "limit is %d bytes",
				 n->backing_format, BACKING_FORMAT_MAX);
	return 0;
}

/* What version 2 has no place for. */
static int check_version_2(const struct qcow2_new *n, struct error *err)
{
	static const char needed[] =
		"compatibility level 1.1 and above (use compat=v3)";

	if (n->version >= 3)
		return 0;
	if (n->refcount_order != 4)
		return error_set(err, EINVAL,
				 "Different refcount widths than 16 bits "
				 "require %s",
				 needed);
	if (n->lazy_refcounts)
		return error_set(err, EINVAL,
				 "Lazy refcounts only supported with %s",
				 needed);
	if (n->compression_type != QCOW2_COMPRESSION_DEFLATE)
		return error_set(err, EINVAL,
				 "Non-zlib compression type is only supported "
				 "with %s",
				 needed);
	if (n->extended_l2)
		return error_set(err, EINVAL,
				 "Extended L2 entries are only supported with "
				 "%s",
				 needed);
	if (n->data_file)
		return error_set(err, EINVAL,
				 "External data files are only supported with "
				 "%s",
				 needed);
	return 0;
}

static int check_together(const struct qcow2_new *n, struct error *err)
{
	int ret = check_version_2(n, err);

	if (ret < 0)
		return ret;
	if (n->extended_l2 && n->cluster_bits < 14)
		return error_set(err, EINVAL,
				 "Extended L2 entries are only supported with "
				 "cluster sizes of at least 16384 bytes");
	if (n->data_file_raw && !n->data_file)
		return error_set(err, EINVAL,
				 "data_file_raw requires data_file");
	if (n->backing_name && n->prealloc != PREALLOC_OFF && !n->extended_l2)
		return error_set(err, EINVAL,
				 "Backing file and preallocation can only be "
				 "used at the same time if extended_l2 is on");
	return 0;
}

int qcow2_new_parse(struct qcow2_new *out, const struct options *opts,
		    struct error *err)
{
	struct qcow2_new n = {0};
	int ret;

	n.data_file = options_get(opts, "data_file");
	if ((ret = parse_version(&n, options_get(opts, "compat"), err)) < 0 ||
	    (ret = parse_cluster_size(&n, opts, err)) < 0 ||
	    (ret = parse_refcount_bits(&n, opts, err)) < 0 ||
	    (ret = parse_compression(
		     &n, options_get_text(opts, table, "compression_type"),
		     err)) < 0 ||
	    (ret = parse_prealloc(&n, options_get(opts, "preallocation"),
				  err)) < 0 ||
	    (ret = options_get_bool(opts, table, "lazy_refcounts",
				    &n.lazy_refcounts, err)) < 0 ||
	    (ret = options_get_bool(opts, table, "extended_l2", &n.extended_l2,
				    err)) < 0 ||
	    (ret = options_get_bool(opts, table, "data_file_raw",
				    &n.data_file_raw, err)) < 0 ||
	    (ret = parse_encryption(&n, opts, err)) < 0 ||
	    (ret = check_stray_encryption(&n, opts, err)) < 0 ||
	    (ret = parse_backing(&n, opts, err)) < 0 ||
	    (ret = check_together(&n, err)) < 0)
		return ret;
	*out = n;
	return 0;
}

int qcow2_new_check_supported(const struct qcow2_new *n, struct error *err)
{
	const char *what = NULL;

	if (n->crypt_method)
		what = "Encryption (encrypt.format)";
	else if (n->data_file)
		what = "An external data file (data_file)";
	else if (n->extended_l2)
		what = "Extended L2 entries (extended_l2)";
	if (!what)
		return 0;
	return error_set(err, ENOTSUP,
			 "%s is not supported yet in new qcow2 images", what);
}
