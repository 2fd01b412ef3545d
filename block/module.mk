# SPDX-License-Identifier: BSD-3-Clause
SRC += $(wildcard block/*.c) $(wildcard block/storage/*.c)
