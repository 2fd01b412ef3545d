/* SPDX-License-Identifier: BSD-3-Clause */
/* Every format driver, by one line each. */
#include "formats/registry.h"

#include <stddef.h>
#include <string.h>

#include "formats/foreign.h"
#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"

/* raw takes what nobody else wants: it stays the last. */
const struct format_driver *const format_registry[] = {
	&qcow2_driver,
	&raw_driver,
	NULL,
};

/* Those that look at the end of a file come last: a head outranks it. */
format_foreign_rule *const format_foreign_rules[] = {
	vmdk_inspect, vdi_inspect,     vhd_inspect,	  vhdx_inspect,
	luks_inspect, foreign_inspect, vhd_fixed_inspect, NULL,
};

const struct format_driver *format_find(const char *name)
{
	for (size_t i = 0; format_registry[i]; i++)
		if (!strcmp(format_registry[i]->name, name))
			return format_registry[i];
	return NULL;
}
