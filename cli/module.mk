# SPDX-License-Identifier: BSD-3-Clause
SRC += $(wildcard cli/*.c)
