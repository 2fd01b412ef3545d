/* SPDX-License-Identifier: BSD-3-Clause */
/* Formats are told by their bytes, and no container is taken for raw. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/format.h"
#include "block/probe.h"
#include "block/storage/memory.h"
#include "formats/registry.h"

/* A file with some bytes at one place, and zeros elsewhere. */
struct sample {
	const char *name; /* what the message says; NULL: raw */
	const char *bytes;
	size_t len;
	uint64_t off;
};

#define SAMPLE(name, off, bytes)                    \
	{                                           \
		name, bytes, sizeof(bytes) - 1, off \
	}

#define FILE_SIZE ((uint64_t)256 * 1024)

static const struct sample foreign[] = {
	SAMPLE("qcow (version 1)", 0, "QFI\xfb\0\0\0\1"),
	SAMPLE("qcow (version 1)", 0, "QFI\xfb\0\0\0\0"),
	SAMPLE("vmdk", 0, "KDMV\1\0\0\0"),
	SAMPLE("vmdk", 0, "COWD"),
	SAMPLE("SESparse", 0, "\xbe\xba\xfe\xca\0\0\0\0"),
	SAMPLE("descriptor", 0, "# Disk DescriptorFile\nversion=1\n"),
	SAMPLE("descriptor", 0, "# a\r\n\r\n  #b\n \nversion=3\r\n"),
	SAMPLE("vdi", 0x40, "\x7f\x10\xda\xbe"),
	SAMPLE("vhdx", 0, "vhdxfile"),
	SAMPLE("vpc", 0, "conectix"),
	SAMPLE("fixed VHD", FILE_SIZE - 512, "conectix"),
	SAMPLE("fixed VHD", FILE_SIZE - 511, "conectix"),
	SAMPLE("luks", 0, "LUKS\xba\xbe\0\1"),
	SAMPLE("luks2", 0, "LUKS\xba\xbe\0\2"),
	SAMPLE("unknown version", 0, "LUKS\xba\xbe\0\3"),
	SAMPLE("qed", 0, "QED\0"),
	SAMPLE("parallels", 0, "WithoutFreeSpace\2"),
	SAMPLE("parallels", 0, "WithouFreSpacExt\2"),
	SAMPLE("bochs", 0, "Bochs Virtual HD Image"),
	SAMPLE("cloop", 0, "#!/bin/sh\n#V2.0 Format\n"),
	SAMPLE("dmg", FILE_SIZE - 512, "koly\0\0\0\4"),
	SAMPLE("sparseimage", 0, "sprs"),
	SAMPLE("gzip compressed", 0, "\x1f\x8b\x08"),
	SAMPLE("xz compressed", 0, "\xfd\x37zXZ\0"),
	SAMPLE("zstd compressed", 0, "\x28\xb5\x2f\xfd"),
	SAMPLE("bzip2 compressed", 0, "BZh91AY&SY"),
	SAMPLE("bzip2 compressed", 0, "BZh1\x17\x72\x45\x38\x50\x90"),
	SAMPLE("zip archive", 0, "PK\3\4"),
	SAMPLE("tar archive", 257, "ustar"),
};

static const struct sample raw[] = {
	SAMPLE(NULL, 0, ""),
	SAMPLE(NULL, 510, "\x55\xaa"),
	SAMPLE(NULL, 512, "EFI PART"),
	SAMPLE(NULL, 0x8001, "CD001"),
	SAMPLE(NULL, 1080, "\x53\xef"),
	/* Magics that are elsewhere, cut short, or in the other byte order. */
	SAMPLE(NULL, 1, "QFI\xfb\0\0\0\3"),
	SAMPLE(NULL, 0, "QFI\xfa\0\0\0\3"),
	SAMPLE(NULL, 0, "\xfb\x49\x46\x51"),
	SAMPLE(NULL, 0x40, "\xbe\xda\x10\x7f"),
	SAMPLE(NULL, 512, "QFI\xfb\0\0\0\3"),
	SAMPLE(NULL, 0, "conecti"),
	SAMPLE(NULL, FILE_SIZE - 513, "conectix"),
	SAMPLE(NULL, FILE_SIZE - 512, "koly\4\0\0\0"),
	SAMPLE(NULL, 0, "BZh9"),
	SAMPLE(NULL, 0, "# comment\nversion=4\n"),
	SAMPLE(NULL, 0, "# comment\nversion 1\n"),
	SAMPLE(NULL, 0, "text\nversion=1\n"),
	SAMPLE(NULL, 0, "#!/bin/sh\necho\n"),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void put(struct storage *s, const struct sample *sample)
{
	assert_int_equal(
		storage_write(s, sample->bytes, sample->len, sample->off), 0);
}

static struct storage *file_with(const struct sample *sample)
{
	struct storage *s;

	assert_int_equal(storage_memory_new(&s, "sample", FILE_SIZE), 0);
	put(s, sample);
	return s;
}

/* Probes and closes. */
static int probe(struct storage *s, const char **name, bool *guessed,
		 struct error *err)
{
	const struct format_driver *driver;
	int ret;

	*err = (struct error){0};
	ret = probe_format(s, &driver, guessed, err);
	*name = ret ? NULL : driver->name;
	storage_close(s);
	return ret;
}

static bool recognised(const struct sample *sample)
{
	uint8_t sector[512] = {0};

	if (sample->off + sample->len > sizeof(sector))
		return probe_would_recognise(sector, sizeof(sector));
	memcpy(sector + sample->off, sample->bytes, sample->len);
	return probe_would_recognise(sector, sizeof(sector));
}

static void containers_without_driver_are_named(void **state)
{
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	for (size_t i = 0; i < COUNT(foreign); i++) {
		const struct sample *sample = &foreign[i];

		if (!probe(file_with(sample), &name, &guessed, &err))
			fail_msg("%s was taken for %s", sample->name, name);
		assert_int_equal(err.code, EINVAL);
		if (!strstr(err.message, sample->name))
			fail_msg("%s: no '%s' in it", err.message,
				 sample->name);
		assert_non_null(strstr(err.message, "raw explicitly"));
	}
}

static void contents_of_disks_are_raw(void **state)
{
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	for (size_t i = 0; i < COUNT(raw); i++) {
		if (probe(file_with(&raw[i]), &name, &guessed, &err))
			fail_msg("%zu: %s", i, err.message);
		assert_string_equal(name, "raw");
		assert_true(guessed);
	}
}

static void qcow2_is_told_from_version_2_on(void **state)
{
	static const struct sample versions[] = {
		SAMPLE(NULL, 0, "QFI\xfb\0\0\0\2"),
		SAMPLE(NULL, 0, "QFI\xfb\0\0\0\3"),
		SAMPLE(NULL, 0, "QFI\xfb\0\0\0\x09"),
		SAMPLE(NULL, 0, "QFI\xfb\xff\xff\xff\xff"),
	};
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	for (size_t i = 0; i < COUNT(versions); i++) {
		assert_int_equal(
			probe(file_with(&versions[i]), &name, &guessed, &err),
			0);
		assert_string_equal(name, "qcow2");
		assert_false(guessed);
	}
}

static void short_files_are_looked_at_whole(void **state)
{
	static const uint64_t sizes[] = {0, 1, 7, 511, 512, 513};
	struct storage *s;
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		assert_int_equal(storage_memory_new(&s, "short", sizes[i]), 0);
		assert_int_equal(probe(s, &name, &guessed, &err), 0);
		assert_string_equal(name, "raw");
	}
	assert_int_equal(storage_memory_from(&s, "short", "QFI\xfb\0\0\0\3", 8),
			 0);
	assert_int_equal(probe(s, &name, &guessed, &err), 0);
	assert_string_equal(name, "qcow2");
	assert_int_equal(storage_memory_from(&s, "short", "conectix", 8), 0);
	assert_int_equal(probe(s, &name, &guessed, &err), -EINVAL);
}

static void two_formats_at_the_head_are_refused(void **state)
{
	static const struct sample qcow2 = SAMPLE("", 0, "QFI\xfb\0\0\0\3");
	static const struct sample vdi = SAMPLE("", 0x40, "\x7f\x10\xda\xbe");
	struct storage *s = file_with(&qcow2);
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	put(s, &vdi);
	assert_int_equal(probe(s, &name, &guessed, &err), -EINVAL);
	assert_non_null(strstr(err.message, "qcow2 and vdi"));
}

/* A guest can write the last sector of a growing image. */
static void a_trailer_does_not_overrule_the_head(void **state)
{
	static const struct sample qcow2 = SAMPLE("", 0, "QFI\xfb\0\0\0\3");
	static const struct sample vhd =
		SAMPLE("", FILE_SIZE - 512, "conectix");
	struct storage *s = file_with(&qcow2);
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	put(s, &vhd);
	assert_int_equal(probe(s, &name, &guessed, &err), 0);
	assert_string_equal(name, "qcow2");
}

/* What a guest could write into the first sector to get another format. */
static void the_guard_sees_what_the_probe_sees(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(foreign); i++) {
		bool at_head = foreign[i].off < 512;

		if (recognised(&foreign[i]) != at_head)
			fail_msg("%s: guard and probe differ", foreign[i].name);
	}
	for (size_t i = 0; i < COUNT(raw); i++)
		if (recognised(&raw[i]))
			fail_msg("sample %zu is no format", i);
	assert_true(probe_would_recognise("QFI\xfb\0\0\0\3", 8));
	assert_false(probe_would_recognise("", 0));
}

/*
 * The text of a descriptor could be written in pieces, none of which looks like
 * one. So nothing behind the first sector may count.
 */
static void a_signature_never_leaves_the_first_sector(void **state)
{
	struct storage *s;
	char text[600];
	const char *name;
	struct error err;
	bool guessed;

	(void)state;
	for (size_t start = 490; start < 530; start++) {
		memset(text, '#', sizeof(text));
		text[start - 1] = '\n';
		memcpy(text + start, "version=1\n", 10);
		assert_int_equal(
			storage_memory_from(&s, "text", text, sizeof(text)), 0);
		bool found = probe(s, &name, &guessed, &err) != 0;

		assert_int_equal(found, start + 9 <= 512);
		assert_int_equal(found, probe_would_recognise(text, 512));
	}
}

static void drivers_are_found_by_name(void **state)
{
	size_t count = 0;

	(void)state;
	while (format_registry[count])
		count++;
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++)
		assert_ptr_equal(format_find(format_registry[i]->name),
				 format_registry[i]);
	assert_string_equal(format_registry[count - 1]->name, "raw");
	assert_null(format_find("no such format"));
	assert_null(format_find(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(containers_without_driver_are_named),
		cmocka_unit_test(contents_of_disks_are_raw),
		cmocka_unit_test(qcow2_is_told_from_version_2_on),
		cmocka_unit_test(short_files_are_looked_at_whole),
		cmocka_unit_test(two_formats_at_the_head_are_refused),
		cmocka_unit_test(a_trailer_does_not_overrule_the_head),
		cmocka_unit_test(the_guard_sees_what_the_probe_sees),
		cmocka_unit_test(a_signature_never_leaves_the_first_sector),
		cmocka_unit_test(drivers_are_found_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
