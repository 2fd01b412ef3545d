# SPDX-License-Identifier: BSD-3-Clause
SRC += $(wildcard nbd-server/*.c)
