/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Proof that the crash tests see what they are for: a build of its own
 * (VARIANT=broken) can break one rule of durability at a time. Everywhere else
 * every rule holds, as a constant, and nothing of this is compiled.
 */
#ifndef PLATTER_FORMATS_QCOW2_BREAKS_H
#define PLATTER_FORMATS_QCOW2_BREAKS_H

#ifdef PLATTER_BREAKABLE
extern unsigned qcow2_broken_rule; /* n of Wn; 0: none. In flush.c. */
#define RULE_HOLDS(n) (qcow2_broken_rule != (n))
#else
#define RULE_HOLDS(n) 1
#endif

#endif
