/* SPDX-License-Identifier: BSD-3-Clause */
/* The options of a new image as `create` and `convert` print them. */
#include "cli/create-options.h"

#include <stdio.h>
#include <string.h>

#include "block/format.h"
#include "block/options.h"

/* The column of " - help". */
#define HELP_COLUMN 24

/*
 * The order of the options in the line that create prints. Scripts compare that
 * line; options that are not listed follow in the order of the driver's table.
 */
struct print_order {
	const char *format;
	const char *names[24];
};

static const struct print_order print_orders[] = {
	{"qcow2",
	 {"encryption",
	  "encrypt.format",
	  "encrypt.key-secret",
	  "encrypt.cipher-alg",
	  "encrypt.cipher-mode",
	  "encrypt.ivgen-alg",
	  "encrypt.ivgen-hash-alg",
	  "encrypt.hash-alg",
	  "encrypt.iter-time",
	  "cluster_size",
	  "extended_l2",
	  "preallocation",
	  "compression_type",
	  "size",
	  "compat",
	  "backing_file",
	  "backing_fmt",
	  "data_file",
	  "data_file_raw",
	  "lazy_refcounts",
	  "refcount_bits",
	  NULL}},
	{NULL, {"size", "preallocation", "nocow", NULL}},
};

static const char *const *order_of(const struct format_driver *driver)
{
	const struct print_order *order = print_orders;

	while (order->format && strcmp(order->format, driver->name) != 0)
		order++;
	return order->names;
}

static const struct option_def *find_def(const struct format_driver *driver,
					 const char *name)
{
	for (const struct option_def *def = driver->create_options; def->name;
	     def++)
		if (!strcmp(def->name, name))
			return def;
	return NULL;
}

bool create_options_has(const struct format_driver *driver, const char *name)
{
	return find_def(driver, name) != NULL;
}

static void print_doubling_commas(const char *text)
{
	for (; *text; text++) {
		if (*text == ',')
			putchar(',');
		putchar(*text);
	}
}

static void print_option(const struct option_def *def,
			 const struct options *opts)
{
	const char *given = options_get(opts, def->name);
	const char *text = given ? given : def->default_text;
	uint64_t number;

	if (!text)
		return;
	printf(" %s=", def->name);
	if (def->type == OPTION_BOOL)
		fputs(!strcmp(text, "on") || !strcmp(text, "yes") ||
				      !strcmp(text, "true") ||
				      !strcmp(text, "y")
			      ? "on"
			      : "off",
		      stdout);
	else if (def->type != OPTION_STRING && size_parse(text, &number) == 0)
		printf("%llu", (unsigned long long)number);
	else
		print_doubling_commas(text);
}

static bool listed(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

void create_options_print(const char *name, const struct format_driver *driver,
			  const struct options *opts)
{
	const char *const *order = order_of(driver);
	const struct option_def *def;

	printf("Formatting '%s', fmt=%s", name, driver->name);
	for (const char *const *at = order; *at; at++) {
		def = find_def(driver, *at);
		if (def)
			print_option(def, opts);
	}
	for (def = driver->create_options; def->name; def++)
		if (!listed(order, def->name))
			print_option(def, opts);
	putchar('\n');
}

static const char *type_text(enum option_type type)
{
	switch (type) {
	case OPTION_STRING:
		return "str";
	case OPTION_NUMBER:
		return "num";
	case OPTION_SIZE:
		return "size";
	case OPTION_BOOL:
		return "bool (on/off)";
	}
	return "";
}

void create_options_help(const struct format_driver *driver, bool with_file)
{
	if (with_file)
		puts("Supported options:");
	else
		printf("Supported %s options:\n", driver->name);
	for (const struct option_def *def = driver->create_options; def->name;
	     def++) {
		char head[128];

		snprintf(head, sizeof(head), "  %s=<%s>", def->name,
			 type_text(def->type));
		printf("%-*s - %s\n", HELP_COLUMN, head, def->help);
	}
	if (!with_file)
		puts("\nThe protocol level may support further options.\n"
		     "Specify the target filename to include those options.");
}
